// The page of `wasm-hostmap inspect --html`, in Chromium:
//
//   npm run test:inspect [-- --screenshots DIR]
//
// A process is inspected whose regions, files and snapshots have names that a page must not take
// for its own. The browser is the system's; playwright-core and axe-core are pinned in this folder.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { isInstalled } from '../../scripts/installed.mjs'

const HERE = path.dirname(fileURLToPath(import.meta.url))
const ROOT = path.join(HERE, '..', '..')
const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const COMMAND = path.join(ROOT, 'cli', 'main.js')

const { values: options } = parseArgs({ options: { screenshots: { type: 'string' } } })

if (!isInstalled(HERE)) {
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: HERE, stdio: 'inherit' })
}
const require = createRequire(import.meta.url)
const { chromium } = require('playwright-core')

const executablePath = process.env.CHROMIUM ?? BROWSERS.find(file => existsSync(file))
if (executablePath === undefined)
  throw new Error(`There is no browser: ${BROWSERS.join(', ')}. CHROMIUM may name one.`)

let child, browser, said, inspection, url
const folder = mkdtempSync(path.join(tmpdir(), 'wasm-hostmap-page-'))

before(async () => {
  child = spawn(
    process.execPath,
    [path.join(ROOT, '__test__', 'support', 'inspected.js'), folder, '--allow'],
    { stdio: ['pipe', 'pipe', 'inherit'] }
  )
  const [line] = await once(child.stdout, 'data')
  said = JSON.parse(line)
  const html = path.join(folder, 'page.html')
  const text = execFileSync(process.execPath, [
    COMMAND,
    'inspect',
    String(said.pid),
    '--timeout',
    '100',
    '--json',
    '--html',
    html
  ])
  inspection = JSON.parse(text)
  url = pathToFileURL(html).href
  // A container's root may not make the browser's sandbox.
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
})

after(async () => {
  await browser?.close()
  child?.stdin.end()
  rmSync(folder, { recursive: true, force: true })
})

/** A page that has loaded, and fails what it must not do: errors, requests, foreign code. */
async function open(settings = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 1000 }, ...settings })
  const page = await context.newPage()
  const wrong = []
  page.on('console', message => {
    // What these tests do themselves: they read pixels.
    if (!message.text().includes('willReadFrequently')) wrong.push(`console: ${message.text()}`)
  })
  page.on('pageerror', error => wrong.push(`error: ${error.message}`))
  page.on('request', request => {
    if (request.url() !== url) wrong.push(`request: ${request.url()}`)
  })
  await page.addInitScript(() => {
    globalThis.hackedTimes = 0
    globalThis.hacked = () => {
      globalThis.hackedTimes++
    }
  })
  await page.goto(url)
  await drawn(page)
  return {
    page,
    wrong,
    async close(expected = []) {
      assert.deepEqual(wrong, expected)
      assert.equal(await page.evaluate(() => globalThis.hackedTimes), 0)
      await context.close()
    }
  }
}

/** After the frame in which it draws. */
const drawn = page =>
  page.evaluate(
    () => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))
  )

async function shot(page, name) {
  if (options.screenshots === undefined) return
  await page.screenshot({ path: path.join(options.screenshots, `${name}.png`), fullPage: true })
}

const crumbsOf = page => page.locator('#crumbs button').allTextContents()
const theMemory = () => inspection.memories.find(it => it.byteLength === said.byteLength)
const range = page => page.locator('#range').textContent()

async function goTo(page, type, name) {
  const item = page.locator(`#list li[data-type="${type}"] button`)
  await item.filter({ hasText: name }).first().click()
  await drawn(page)
}

/** What is in view, by what the page says: the same numbers that it draws by. */
async function viewOf(page) {
  const [start, end] = (await range(page)).match(/0x[0-9a-f]+/g).map(Number)
  return { start, end }
}

/** The colour of the canvas at an address, so far from its top. */
async function colourAt(page, address, y) {
  const { start, end } = await viewOf(page)
  return page.evaluate(
    ([share, y]) => {
      const canvas = document.getElementById('canvas')
      const scale = canvas.width / canvas.clientWidth
      const pen = canvas.getContext('2d')
      const [r, g, b] = pen.getImageData(Math.floor(share * canvas.width), y * scale, 1, 1).data
      return `#${[r, g, b].map(it => it.toString(16).padStart(2, '0')).join('')}`
    },
    [(address - start) / (end - start), y]
  )
}

const colourNamed = (page, name) =>
  page.evaluate(
    name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(),
    name
  )

// In the lanes of strip.client.js, off their labels.
const MEMORIES_LANE = 47
const RESIDENT_LANE = 255

describe('the page', () => {
  test('is one file without a network, in which names are text', async () => {
    const { page, close } = await open()
    assert.equal(await page.locator('img').count(), 0)
    assert.equal(await page.locator('script').count(), 2)
    await goTo(page, 'mapping', said.regionName)
    assert.equal(await page.locator('#detail h2').textContent(), said.regionName)
    await page.locator('#search').fill(said.fileName)
    assert.ok((await page.locator('#list li').count()) >= 3)
    await shot(page, 'hostile-names')
    await close()
  })

  test('runs no script that was put into it', async () => {
    const { page, wrong, close } = await open()
    await page.evaluate(() => {
      const script = document.createElement('script')
      script.textContent = 'hacked()'
      document.body.append(script)
      const image = document.createElement('img')
      image.setAttribute('onerror', 'hacked()')
      image.src = 'data:,'
      document.body.append(image)
    })
    await drawn(page)
    assert.ok(wrong.length > 0 && wrong.every(it => it.includes('Content Security Policy')), wrong)
    await close(wrong)
  })

  test('shows the whole address space first, and every memory in it', async () => {
    const { page, close } = await open()
    assert.deepEqual(await crumbsOf(page), ['Address space'])
    assert.match(await range(page), /^0x0 to 0x\d+: \d+ TiB in view$/)
    const listed = await page.locator('#list li[data-type="memory"]').count()
    assert.equal(listed, inspection.memories.length)
    const pools = await page.locator('#list li[data-type="pool"]').count()
    assert.equal(pools, inspection.pools.length)
    await shot(page, 'whole')
    await close()
  })

  test('draws a memory and its mappings to scale', async () => {
    const { page, close } = await open()
    const memory = theMemory()
    await goTo(page, 'memory', `memory ${memory.id}`)
    // Nothing is selected, so that no frame is over what is looked at.
    const colour = name => colourNamed(page, name)
    const [own, region] = [await colour('memory'), await colour('region')]
    const rows = [
      [memory.base + memory.byteLength * 0.02, own],
      ...memory.mappings.flatMap(it =>
        [0.3, 0.6, 0.9].map(share => [memory.base + it.address + it.byteLength * share, region])
      )
    ]
    // A window of four pages is less than a line here.
    for (const [address, expected] of rows.slice(0, 7)) {
      assert.equal(await colourAt(page, address, MEMORIES_LANE + 18), expected, `at ${address}`)
    }
    await shot(page, 'memory')
    await close()
  })

  test('goes from the whole space to one page by the keyboard, and back', async () => {
    const { page, close } = await open()
    const memory = theMemory()
    await page.locator('#list li[data-type="memory"] button').nth(memory.id).focus()
    await page.keyboard.press('Enter')
    await drawn(page)
    assert.deepEqual(await crumbsOf(page), [
      'Address space',
      `reservation of memory ${memory.id}`,
      `memory ${memory.id}`
    ])
    await page.locator('#strip').focus()
    for (let i = 0; i < 40; i++) await page.keyboard.press('+')
    await drawn(page)
    const crumbs = await crumbsOf(page)
    assert.match(crumbs.at(-1), /^page 0x[0-9a-f]+$/)
    assert.equal(Number(crumbs.at(-1).slice(5)) % said.pageBytes, 0)
    assert.ok((await range(page)).endsWith(': 4 KiB in view'), await range(page))
    const seen = []
    for (let i = 0; i < 8; i++) {
      await page.keyboard.press('Backspace')
      await drawn(page)
      seen.push((await crumbsOf(page)).at(-1))
    }
    assert.ok(seen.includes(`memory ${memory.id}`), String(seen))
    assert.equal(seen.at(-1), 'Address space')
    await page.keyboard.press('PageDown')
    await page.keyboard.press('Enter')
    await drawn(page)
    assert.notDeepEqual(await crumbsOf(page), ['Address space'])
    await page.keyboard.press('Home')
    await drawn(page)
    assert.deepEqual(await crumbsOf(page), ['Address space'])
    await close()
  })

  test('shows of each page whether it is in memory, and whose it is', async () => {
    const { page, close } = await open()
    const memory = theMemory()
    const mapping = memory.mappings.find(it => it.address === said.own)
    const start = memory.base + mapping.address
    await page.locator('#search').fill(`0x${start.toString(16)}`)
    await goTo(page, 'mapping', said.fileName)
    await page.locator('#strip').focus()
    await page.keyboard.press('Enter')
    // Round its first page, until pages can be told apart.
    const strip = await page.locator('#strip').boundingBox()
    for (;;) {
      await drawn(page)
      const view = await viewOf(page)
      if (view.end - view.start < 20 * said.pageBytes) break
      const x = ((start - view.start) / (view.end - view.start)) * strip.width
      await page.mouse.move(strip.x + x, strip.y + 20)
      await page.mouse.wheel(0, -60)
    }
    await page.keyboard.press('ArrowLeft')
    await drawn(page)
    const own = await colourNamed(page, 'own')
    const ground = await colourNamed(page, 'ground')
    // Two were written: the others are not in memory.
    const expected = [own, ground, ground, ground, ground, own, ground]
    for (const [i, colour] of expected.entries()) {
      const at = start + (i + 0.5) * said.pageBytes
      assert.equal(await colourAt(page, at, RESIDENT_LANE), colour, `page ${i}`)
    }
    await shot(page, 'pages')
    await close()
  })

  test('says of what is selected what inspect() says', async () => {
    const { page, close } = await open()
    await goTo(page, 'mapping', said.regionName)
    const terms = await page.locator('#detail dt').allTextContents()
    const words = await page.locator('#detail dd').allTextContents()
    const facts = Object.fromEntries(terms.map((term, i) => [term, words[i]]))
    assert.equal(facts.Kind, 'mapping')
    assert.equal(facts.Access, 'readonly')
    assert.equal(facts['Address in the memory'], `0x${said.mapping.toString(16)}`)
    assert.equal(facts.Region, said.regionName)
    assert.equal(facts['Stray writes'], '0')
    await close()
  })

  test('finds by name, kind and address', async () => {
    const { page, close } = await open()
    const count = async text => {
      await page.locator('#search').fill(text)
      return page.locator('#list li').count()
    }
    const all = await count('')
    assert.ok((await count('snapshot booted')) >= 1)
    assert.equal(await page.locator('#list li[data-type="snapshot"]').count(), 1)
    await count('window')
    assert.equal(await page.locator('#list li[data-type="mapping"]').count(), 1)
    assert.equal(await count('no such thing at all'), 0)
    assert.equal(await page.locator('#count').textContent(), '0 found')
    const { base } = theMemory()
    assert.ok((await count(`0x${(base + 5).toString(16)}`)) >= 1)
    assert.equal(await count(''), all)
    await close()
  })

  test('zooms by wheel and buttons round where the pointer is, drags, and tells by the pointer', async () => {
    const { page, close } = await open()
    const box = await page.locator('#strip').boundingBox()
    const at = share => [box.x + box.width * share, box.y + box.height / 2]
    await page.mouse.move(...at(0.25))
    const before = await viewOf(page)
    const address = before.start + (before.end - before.start) * 0.25
    await page.mouse.wheel(0, -360)
    await drawn(page)
    const zoomed = await viewOf(page)
    assert.ok(zoomed.end - zoomed.start < (before.end - before.start) / 7)
    const now = zoomed.start + (zoomed.end - zoomed.start) * 0.25
    assert.ok(Math.abs(now - address) < (zoomed.end - zoomed.start) / 100)
    await page.mouse.down()
    await page.mouse.move(...at(0.5), { steps: 4 })
    await page.mouse.up()
    await drawn(page)
    const dragged = await viewOf(page)
    assert.ok(dragged.start < zoomed.start)
    await page.locator('#in').click()
    await page.locator('#right').click()
    await page.locator('#left').click()
    await page.locator('#out').click()
    await drawn(page)
    const after = await viewOf(page)
    assert.ok(Math.abs(after.end - after.start - (dragged.end - dragged.start)) <= 2)
    await page.mouse.move(...at(0.7))
    assert.match(await page.locator('#tip').textContent(), /^0x[0-9a-f]+: /)
    await page.locator('#whole').click()
    await drawn(page)
    assert.deepEqual(await crumbsOf(page), ['Address space'])
    await close()
  })

  for (const colorScheme of ['light', 'dark']) {
    test(`has nothing that axe-core objects to, ${colorScheme}`, async () => {
      const { page, close } = await open({ colorScheme })
      await goTo(page, 'memory', `memory ${theMemory().id}`)
      await page.evaluate(readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'))
      const { violations } = await page.evaluate(() => globalThis.axe.run())
      const found = violations.map(it => `${it.id}: ${it.nodes.map(node => node.html).join(' ')}`)
      assert.deepEqual(found, [])
      await shot(page, colorScheme)
      await close()
    })
  }

  test('is dark where the system is, and changes with it', async () => {
    const { page, close } = await open({ colorScheme: 'light' })
    // Between two lanes, where nothing is drawn.
    const corner = async () => colourAt(page, (await viewOf(page)).end * 0.6, 78)
    assert.equal(await corner(), await colourNamed(page, 'ground'))
    const light = await corner()
    await page.emulateMedia({ colorScheme: 'dark' })
    await drawn(page)
    assert.equal(await corner(), await colourNamed(page, 'ground'))
    assert.notEqual(await corner(), light)
    await close()
  })

  test('is readable on a phone, and works by touch', async () => {
    const phone = {
      viewport: { width: 360, height: 740 },
      isMobile: true,
      hasTouch: true,
      deviceScaleFactor: 2
    }
    const { page, close } = await open(phone)
    await goTo(page, 'mapping', said.regionName)
    const overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth
    )
    assert.equal(overflow, 0)
    const heights = await page
      .locator('button')
      .evaluateAll(all => all.map(it => it.getBoundingClientRect().height))
    assert.ok(Math.min(...heights) >= 36, `${Math.min(...heights)}`)
    await page.locator('#whole').tap()
    await drawn(page)
    const before = await viewOf(page)
    await page.locator('#strip').scrollIntoViewIfNeeded()
    const { x, y, width, height } = await page.locator('#strip').boundingBox()
    const session = await page.context().newCDPSession(page)
    const touch = (type, ...points) =>
      session.send('Input.dispatchTouchEvent', {
        type,
        touchPoints: points.map((share, id) => ({ x: x + width * share, y: y + height / 2, id }))
      })
    await touch('touchStart', 0.45, 0.55)
    for (const by of [0.1, 0.2, 0.3]) await touch('touchMove', 0.45 - by, 0.55 + by)
    await touch('touchEnd')
    await drawn(page)
    const pinched = await viewOf(page)
    assert.ok(pinched.end - pinched.start < (before.end - before.start) / 4)
    await shot(page, 'phone')
    await close()
  })
})
