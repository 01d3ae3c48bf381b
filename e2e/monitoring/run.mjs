// npm run test:monitoring: runs what docs/monitoring.md shows with prom-client and OpenTelemetry's
// SDK, as it is written there, and reads the text for Prometheus by a parser of another author.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { isInstalled } from '../../scripts/installed.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))
const root = path.resolve(here, '../..')

if (!isInstalled(here)) {
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: here, stdio: 'inherit' })
}
// The package by its name, as a program imports it.
const link = path.join(here, 'node_modules', 'wasm-hostmap')
if (!existsSync(link)) symlinkSync(root, link)

const { GuardedMemory, HostRegion, metrics } = await import('wasm-hostmap')
const { MeterProvider, MetricReader } = await import('@opentelemetry/sdk-metrics')
const { default: parse } = await import('parse-prometheus-text-format')

const snippets = [
  ...readFileSync(path.join(root, 'docs', 'monitoring.md'), 'utf8').matchAll(
    /^```js run=e2e\/monitoring\n(.*?)^```$/gms
  )
].map(([, text]) => text)
assert.equal(snippets.length, 2, 'docs/monitoring.md has two snippets for other packages')

const folder = mkdtempSync(path.join(here, 'snippet-'))
try {
  const [prom, otel] = await Promise.all(
    snippets.map((text, index) => {
      const file = path.join(folder, `${index}.mjs`)
      writeFileSync(file, text)
      return import(pathToFileURL(file).href)
    })
  )
  const region = HostRegion.allocate(65_536)
  const window = new GuardedMemory({ initial: 1 }).window({ byteLength: 65_536 })
  for (let i = 0; i < 7; i++) window.slide(region, 0)

  checkText(metrics.prometheus())
  const merged = await prom.text()
  checkText(merged)
  assert.ok(parse(merged).some(({ name }) => name === 'process_cpu_seconds_total'))
  await checkOpenTelemetry(otel.observeHostmap)
  console.log('docs/monitoring.md: prom-client, OpenTelemetry and a parser have the same numbers')
} finally {
  rmSync(folder, { recursive: true })
}

/** What the parser has read is what the package says. */
function checkText(text) {
  const parsed = parse(text)
  const names = parsed.map(({ name }) => name)
  assert.equal(new Set(names).size, names.length, 'no name is there twice')
  for (const { name, type, help, samples } of metrics.families()) {
    const found = parsed.find(it => it.name === name)
    assert.ok(found, name)
    assert.equal(found.type, type.toUpperCase())
    assert.equal(found.help, help)
    const read = found.metrics.map(({ labels = {}, value }) => ({ labels, value: Number(value) }))
    assert.deepEqual(read, samples)
  }
}

async function checkOpenTelemetry(observeHostmap) {
  class Reader extends MetricReader {
    async onForceFlush() {}
    async onShutdown() {}
  }
  const reader = new Reader()
  const provider = new MeterProvider({ readers: [reader] })
  observeHostmap(provider.getMeter('wasm-hostmap'))
  const { resourceMetrics, errors } = await reader.collect()
  assert.deepEqual(errors, [])
  const [{ metrics: collected }] = resourceMetrics.scopeMetrics
  for (const { name, type, help, unit, samples } of metrics.families()) {
    const found = collected.find(it => it.descriptor.name === name.replace(/_total$/, ''))
    assert.ok(found, name)
    assert.equal(found.descriptor.description, help)
    assert.equal(found.descriptor.unit, unit === 'bytes' ? 'By' : '1')
    if (type === 'counter') assert.equal(found.isMonotonic, true)
    const read = found.dataPoints.map(({ attributes, value }) => ({ labels: attributes, value }))
    assert.deepEqual(read, samples)
  }
  await provider.shutdown()
}
