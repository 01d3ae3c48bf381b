'use strict'

// Names of regions: published, replaced, found and taken back.

const fc = require('fast-check')
const { HostRegion, same } = require('../world')
const { newSteps, MOST, pick, flag, choose } = require('./arguments')
const { addRegion, canAddRegion } = require('./regions')

const { steps, step } = newSteps()

const name = fc.constantFrom('one', 'two', 'three.region')

const publishArguments = {
  region: pick,
  name,
  access: fc.constantFrom(undefined, 'readonly', 'shared'),
  replace: fc.constantFrom(undefined, false, true)
}

step('publish', 6, publishArguments, (world, { region: which, name, access, replace }) => {
  const region = choose(world.regions, which)
  if (!region?.real || world.publications.length >= MOST.publications) return null
  const { real, backing, opened, closed } = region
  const before = world.published(name)
  const codes = []
  if (closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  else if (access === 'shared' && !(opened && !backing.sealed))
    codes.push('ERR_HOSTMAP_REGION_READONLY')
  if (before && !replace) codes.push('ERR_HOSTMAP_NAME_TAKEN')
  return {
    text: `publish ${region.name} as ${name}, access ${access}, replace ${replace}`,
    documented: 'publish',
    codes,
    call: () => real.publish(name, { access, replace, directory: world.namesDirectory }),
    done: real => {
      same('name', real.name, name)
      same('directory', real.directory, world.namesDirectory)
      if (before) before.current = false
      world.publications.push({ real, name, region, access: access ?? 'readonly', current: true })
    }
  }
})

step('find', 14, { name }, (world, { name }) => {
  if (!canAddRegion(world)) return null
  const publication = world.published(name)
  const codes = []
  if (!publication) codes.push('ERR_HOSTMAP_NAME_NOT_FOUND')
  const { backing, offset, byteLength, kind } = publication?.region ?? {}
  if (publication && offset + byteLength > backing.size) codes.push('ERR_HOSTMAP_FILE_SHRUNK')
  return {
    text: `find ${name}`,
    documented: 'find',
    codes,
    call: () => HostRegion.find(name, { directory: world.namesDirectory }),
    done: real => {
      const opened = publication.access === 'shared'
      addRegion(world, real, { backing, offset, byteLength, opened, kind })
    }
  }
})

step('take a name back', 4, { publication: pick, dispose: flag }, (world, args) => {
  const publication = choose(world.publications, args.publication)
  if (!publication) return null
  const { real, name, current } = publication
  return {
    text: `take ${name} back${current ? '' : ', which it is not any more'}`,
    documented: 'unpublish',
    call: () =>
      args.dispose && Symbol.dispose !== undefined ? real[Symbol.dispose]() : real.close(),
    done: () => {
      publication.current = false
      same(`${name}: current`, real.current, false)
    }
  }
})

step('forget a publication', 2, { publication: pick }, (world, args) => {
  const gone = world.publications.filter(({ current }) => !current)
  const publication = choose(gone, args.publication)
  if (!publication) return null
  return {
    text: `forget a publication of ${publication.name}`,
    run: () => void world.publications.splice(world.publications.indexOf(publication), 1)
  }
})

step('list the names', 2, {}, world => ({
  text: 'list the names',
  documented: 'find',
  call: () => HostRegion.published({ directory: world.namesDirectory }),
  done: found => {
    const current = world.publications.filter(({ current }) => current)
    const expected = current.map(({ name, access, region: { byteLength } }) => {
      return { name, pid: process.pid, access, byteLength }
    })
    const byName = (a, b) => (a.name < b.name ? -1 : 1)
    same('what is published', JSON.stringify(found), JSON.stringify(expected.sort(byName)))
  }
}))

module.exports = { steps }
