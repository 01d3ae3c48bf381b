// The built site in a real browser: every page, every link and anchor, search, dark mode, a phone.
//
//   npm run build && npm test                     CHROMIUM=PATH where it isn't /usr/bin/chromium
//
// Screenshots go to screenshots/.

/* global document, getComputedStyle, DOMParser -- functions that the browser runs */

import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const SITE = path.dirname(fileURLToPath(import.meta.url))
const DIST = path.join(SITE, 'dist')
const SCREENSHOTS = path.join(SITE, 'screenshots')
const PHONE = { width: 390, height: 844 }
// A text that is smaller needs zooming on a phone.
const LEAST_FONT_SIZE_PX = 12

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
  '.json': 'application/json'
}

let server
let browser
let origin
/** `[page, what]` of each error of any page. */
const errors = []

const files = fs
  .readdirSync(DIST, { recursive: true })
  .filter(file => file.endsWith('.html') && file !== '404.html')
  .sort()

async function open(file, options) {
  const page = await browser.newPage(options)
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) errors.push([file, message.text()])
  })
  page.on('pageerror', error => errors.push([file, String(error)]))
  page.on('requestfailed', request => {
    // What a page was still fetching ahead when the next one was opened.
    if (request.failure()?.errorText === 'net::ERR_ABORTED') return
    errors.push([file, `not loaded: ${request.url()}`])
  })
  page.on('response', response => {
    if (response.status() >= 400) errors.push([file, `${response.status()}: ${response.url()}`])
  })
  page.on('request', request => {
    if (!request.url().startsWith(origin) && !/^(data|blob):/.test(request.url())) {
      errors.push([file, `from another server: ${request.url()}`])
    }
  })
  await page.goto(`${origin}/${file}`, { waitUntil: 'networkidle' })
  return page
}

// Pages of the reference are of one make: of those, a browser opens one of each kind.
const opened = files.filter(
  file =>
    !/^api\/.+\/.+\//.test(file) ||
    /\/(GuardedMemory|Snapshot|HostmapErrorCode|limits)\.html$/.test(file)
)

const takeErrors = () => errors.splice(0)

before(async () => {
  fs.rmSync(SCREENSHOTS, { recursive: true, force: true })
  fs.mkdirSync(SCREENSHOTS)
  server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost')
    const file = path.join(DIST, decodeURIComponent(pathname).replace(/\/$/, '/index.html'))
    if (!file.startsWith(DIST) || !fs.existsSync(file)) {
      response.writeHead(pathname === '/favicon.ico' ? 204 : 404).end()
      return
    }
    response.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'text/plain' })
    fs.createReadStream(file).pipe(response)
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${server.address().port}`
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking']
  })
})

after(async () => {
  await browser?.close()
  server?.close()
})

test('no page has a console error, a missing file, or a dead link or anchor', async () => {
  assert.ok(files.length > 20, `${files.length} pages`)
  const page = await open('index.html')
  /** Page to the ids in it, and to the links of it. */
  const ids = new Map()
  const hrefs = []
  for (const file of opened) {
    await page.goto(`${origin}/${file}`, { waitUntil: 'load' })
    await page.waitForSelector('.vp-doc')
  }
  for (const file of files) {
    const html = fs.readFileSync(path.join(DIST, file), 'utf8')
    const found = await page.evaluate(idsAndLinks, html)
    ids.set(`/${file}`, new Set(found.ids))
    hrefs.push(...found.hrefs.map(href => [file, new URL(href, `${origin}/${file}`).href]))
  }
  const dead = new Set()
  for (const [file, href] of hrefs) {
    const url = new URL(href)
    if (url.origin !== origin) continue
    const target = url.pathname.replace(/\/$/, '/index.html')
    const known = ids.get(target)
    const anchor = decodeURIComponent(url.hash.slice(1))
    if (known === undefined || (anchor !== '' && !known.has(anchor))) {
      dead.add(`${file}: ${url.pathname}${url.hash}`)
    }
  }
  assert.deepEqual([...dead], [])
  assert.deepEqual(takeErrors(), [])
  await page.close()
})

test('search finds a page by a word of it, and opens it', async () => {
  const page = await open('index.html')
  await page.keyboard.press('Control+k')
  const input = page.locator('.VPLocalSearchBox input')
  await input.fill('copy-on-write')
  const first = page.locator('.VPLocalSearchBox .result').first()
  await first.waitFor()
  await page.screenshot({ path: path.join(SCREENSHOTS, 'search.png') })
  const href = await first.getAttribute('href')
  await page.keyboard.press('Enter')
  await page.waitForURL(url => url.href.endsWith(href))
  await page
    .locator('.vp-doc')
    .getByText(/copy-on-write/i)
    .first()
    .waitFor()
  assert.deepEqual(takeErrors(), [])
  await page.close()
})

test('light and dark: the text has contrast in both, and the switch works', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await open('index.html', { colorScheme, viewport: { width: 1280, height: 900 } })
    await page.screenshot({ path: path.join(SCREENSHOTS, `index-${colorScheme}.png`) })
    const contrast = await page.evaluate(contrastOfText)
    assert.ok(contrast >= 4.5, `${colorScheme}: contrast ${contrast}`)
    await page.locator('.VPNavBarAppearance .VPSwitch').click()
    const isDark = await page.evaluate(() => document.documentElement.classList.contains('dark'))
    assert.equal(isDark, colorScheme === 'light')
    await page.close()
  }
  assert.deepEqual(takeErrors(), [])
})

test('on a phone, no page scrolls sideways, and its text is readable', async () => {
  const page = await open('index.html', { viewport: PHONE, isMobile: true, hasTouch: true })
  const wide = []
  for (const file of opened) {
    await page.goto(`${origin}/${file}`, { waitUntil: 'load' })
    await page.waitForSelector('.vp-doc')
    const { width, least } = await page.evaluate(() => ({
      width: document.documentElement.scrollWidth,
      least: Math.min(
        ...[...document.querySelectorAll('.vp-doc p, .vp-doc li, .vp-doc td, .vp-doc pre')].map(
          element => Number.parseFloat(getComputedStyle(element).fontSize)
        )
      )
    }))
    if (width > PHONE.width) wide.push(`${file}: ${width} px wide`)
    if (least < LEAST_FONT_SIZE_PX) wide.push(`${file}: text of ${least} px`)
  }
  assert.deepEqual(wide, [])
  await page.goto(`${origin}/index.html`, { waitUntil: 'networkidle' })
  await page.screenshot({ path: path.join(SCREENSHOTS, 'index-phone.png'), fullPage: true })
  await page.locator('.VPLocalNav .menu').click()
  await page.locator('.VPSidebar.open').waitFor()
  // It slides in.
  await page.evaluate(() => Promise.all(document.getAnimations().map(each => each.finished)))
  await page.screenshot({ path: path.join(SCREENSHOTS, 'menu-phone.png') })
  assert.deepEqual(takeErrors(), [])
  await page.close()
})

test('the drawings of the architecture are drawn', async () => {
  const page = await open('ARCHITECTURE.html')
  const drawings = await page.locator('.diagram').count()
  assert.ok(drawings >= 2)
  for (let index = 0; index < drawings; index++) {
    await page.locator('.diagram').nth(index).locator('svg').waitFor()
  }
  await page.screenshot({ path: path.join(SCREENSHOTS, 'architecture.png') })
  assert.deepEqual(takeErrors(), [])
  await page.close()
})

test('the reference has every export of the package', async () => {
  const page = await open('api/index.html')
  await page.screenshot({ path: path.join(SCREENSHOTS, 'reference.png') })
  const hostmap = await import('../index.mjs')
  const names = Object.keys(hostmap).filter(name => name !== 'default')
  const pages = files.map(file => path.basename(file, '.html'))
  assert.deepEqual(
    names.filter(name => !pages.includes(name)),
    []
  )
  assert.deepEqual(takeErrors(), [])
  await page.close()
})

/** What a page can be linked to by, and what it links to. In the browser. */
function idsAndLinks(html) {
  const parsed = new DOMParser().parseFromString(html, 'text/html')
  return {
    ids: [...parsed.querySelectorAll('[id]')].map(element => element.id),
    hrefs: [...parsed.querySelectorAll('a[href]')].map(link => link.getAttribute('href'))
  }
}

/** The contrast of a paragraph with the page behind it, as WCAG 2 computes it. In the browser. */
function contrastOfText() {
  const channels = color => color.match(/[\d.]+/g).map(Number)
  const luminance = color => {
    const [red, green, blue] = channels(color).map(value => {
      const part = value / 255
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const text = luminance(getComputedStyle(document.querySelector('.vp-doc p')).color)
  const page = luminance(getComputedStyle(document.body).backgroundColor)
  return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05)
}
