'use strict'

// An inspection as a page: one file without a network, that shows it to scale. The page has the
// inspection as data, and a script. Whatever names say, a browser takes them for text: the data
// can't end its element, the script writes text only, and the page's policy runs that script alone.

const { createHash } = require('node:crypto')
const { readFileSync } = require('node:fs')
const path = require('node:path')
const { kindsOf } = require('../shares.js')

const part = name => readFileSync(path.join(__dirname, name), 'utf8')

/** `inspection`: checked (saved.js), or made here. */
function pageOf(inspection) {
  const style = part('page.css')
  // In one scope, which is the script's.
  const script = `{\n${['model.client.js', 'strip.client.js', 'view.client.js'].map(part).join('\n')}\n}`
  const data = JSON.stringify({ ...inspection, kinds: kindsIn(inspection) })
  const title = `Process ${inspection.pid}, ${inspection.takenAt.slice(0, 19)}`
  const policy = [
    "default-src 'none'",
    `style-src '${hashOf(style)}'`,
    `script-src '${hashOf(script)}'`,
    "base-uri 'none'",
    "form-action 'none'"
  ].join('; ')
  return part('page.html')
    .replace('{{policy}}', () => policy)
    .replaceAll('{{title}}', () => escaped(title))
    .replace('<!-- style -->', () => `<style>${style}</style>`)
    .replace(
      '<!-- data and script -->',
      () =>
        `<script type="application/json" id="data">${inScript(data)}</script>\n` +
        `    <script>${script}</script>`
    )
}

const kindsIn = inspection => (inspection.processMap === null ? [] : kindsOf(inspection))

const hashOf = text => `sha256-${createHash('sha256').update(text).digest('base64')}`

/** The same JSON without what would end its element, or begin a comment in it. */
const inScript = json =>
  json.replace(/[<>&\u2028\u2029]/g, it => `\\u${it.charCodeAt(0).toString(16).padStart(4, '0')}`)

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escaped = text => text.replace(/[&<>"']/g, it => ENTITIES[it])

module.exports = { pageOf }
