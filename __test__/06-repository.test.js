'use strict'

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const yaml = require('js-yaml')
const manifest = require('../package.json')

const root = path.join(__dirname, '..')
const read = name => fs.readFileSync(path.join(root, name), 'utf8')
const exists = name => fs.existsSync(path.join(root, name))

const WORKFLOWS = fs.readdirSync(path.join(root, '.github/workflows'))

describe.each(WORKFLOWS)('.github/workflows/%s', name => {
  const workflow = yaml.load(read(`.github/workflows/${name}`))
  const jobs = Object.entries(workflow.jobs)
  const steps = jobs.flatMap(([, job]) => job.steps)

  test('may read the repository, and write only where it publishes', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' })
    const writers = jobs.filter(([, job]) => /write/.test(JSON.stringify(job.permissions ?? {})))
    expect(writers.map(([job]) => job)).toEqual(name === 'release.yml' ? ['publish'] : [])
  })

  test('names the version of each action, and keeps no credentials', () => {
    const uses = steps.map(step => step.uses).filter(Boolean)
    expect(uses.filter(each => !/@(v\d+|[0-9a-f]{40})$/.test(each))).toEqual([])
    for (const step of steps) {
      if (step.uses?.startsWith('actions/checkout@'))
        expect(step.with).toHaveProperty('persist-credentials', false)
    }
  })

  test('every job ends, and runs scripts that exist', () => {
    for (const [, job] of jobs) expect(job['timeout-minutes']).toBeGreaterThan(0)
    const commands = steps.map(step => step.run ?? '').join('\n')
    for (const [, script] of commands.matchAll(/npm run ([\w:]+)/g))
      expect(manifest.scripts).toHaveProperty([script])
    const files = [...commands.matchAll(/(?:node|bash) (\S+)/g)].map(match => match[1])
    expect(files.filter(file => file.includes('/') && !exists(file))).toEqual([])
  })
})

test('CI runs on each Node.js that the matrix has, and releases are for each target', () => {
  const ci = yaml.load(read('.github/workflows/ci.yml'))
  const majors = [...read('scripts/nodes.mjs').matchAll(/\['(\d+)', '\d+\.\d+\.\d+'\]/g)]
  expect(ci.jobs.test.strategy.matrix.node).toEqual(majors.map(match => Number(match[1])))

  const release = yaml.load(read('.github/workflows/release.yml'))
  const { TARGETS } = require('../scripts/packages/manifests.cjs')
  expect(release.jobs.build.strategy.matrix.target).toEqual([...TARGETS.keys()])
  const triples = [...TARGETS.values()].map(({ triple }) => triple)
  expect(triples.sort()).toEqual([...manifest.napi.targets].sort())
})

test('a release has one version in all files', () => {
  const script = path.join(root, 'scripts/check-release.mjs')
  const options = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }
  const printed = execFileSync(process.execPath, [script, `v${manifest.version}`], options)
  expect(printed).toContain(`v${manifest.version} is what package.json`)
  expect(() => execFileSync(process.execPath, [script, 'v99.0.0'], options)).toThrow(
    `package.json says ${manifest.version}`
  )
})

/** What a document names as a file or a folder of the repository: in backticks, or by a link. */
function pathsIn(document) {
  const text = read(document).replace(/^```[^]*?^```/gm, '')
  const named = [...text.matchAll(/`([^`\s]+)`|\]\(([^)\s#]+)(?:#[^)]*)?\)/g)]
  return named
    .map(match => (match[1] ?? match[2]).replace(/:\d+$/, ''))
    .filter(name => /^[\w.][\w./-]*$/.test(name))
    .filter(
      name => name.endsWith('/') || /\.(rs|[cm]?js|[cm]?ts|md|toml|sh|yml|h|json)$/.test(name)
    )
}

test.each(['ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md'])(
  'every file that %s names is there',
  document => {
    // Files of the core are named from src/ on, where the text is about them.
    const isThere = name => exists(name) || exists(path.join('src', name))
    const paths = pathsIn(document).filter(name => !name.startsWith('.slow'))
    expect(paths.filter(name => !isThere(name))).toEqual([])
  }
)
