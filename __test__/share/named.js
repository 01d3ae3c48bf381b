'use strict'

// A process that publishes or finds, as its arguments say:
//
//   node __test__/share/named.js publish DIRECTORY NAME TEXT [OPTIONS]   and waits for its end
//   node __test__/share/named.js find DIRECTORY NAME                     and tells what it got

const { HostRegion } = require('../..')

const [, , what, directory, name, text, options = '{}'] = process.argv

function find() {
  try {
    const region = HostRegion.find(name, { directory })
    const { writable } = region
    const found = Buffer.from(region.view()).toString()
    if (writable) Buffer.from(region.view()).write('W')
    return { text: found, writable }
  } catch ({ code, message }) {
    return { code, message }
  }
}

if (what === 'find') console.log(JSON.stringify(find()))
else {
  const region = HostRegion.copyFrom(Buffer.from(text))
  try {
    region.publish(name, { directory, ...JSON.parse(options) })
    console.log('"published"')
    setInterval(() => {}, 1000)
  } catch ({ code }) {
    console.log(JSON.stringify(code))
  }
}
