import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { slug } from 'github-slugger'
import { defineConfig } from 'vitepress'
import { GROUPS } from '../sidebar.mjs'
import { links } from './links.mjs'

const SITE = path.dirname(path.dirname(fileURLToPath(import.meta.url)))
const PAGES = path.join(SITE, 'pages')
const packageJson = JSON.parse(fs.readFileSync(path.join(SITE, '..', 'package.json'), 'utf8'))

// `git+https://HOST/OWNER/NAME.git` as what a browser opens.
const sourceUrl = packageJson.repository?.url?.replace(/^git\+/, '').replace(/\.git$/, '/blob/main')

const pageOf = file => file.replace(/README\.md$/, 'index.md')
const linkOf = file => `/${pageOf(file).replace(/(index)?\.md$/, '')}`

/** The first heading of a page, without its marks. */
function titleOf(file) {
  const [, title] = /^# (.+)$/m.exec(fs.readFileSync(path.join(PAGES, pageOf(file)), 'utf8'))
  return title.replaceAll('`', '')
}

const guides = GROUPS.map(({ text, pages }) => ({
  text,
  items: pages.map(file => ({ text: titleOf(file), link: linkOf(file) }))
}))

const reference = JSON.parse(
  fs.readFileSync(path.join(PAGES, 'api', 'typedoc-sidebar.json'), 'utf8')
)

export default defineConfig({
  title: packageJson.name,
  description: packageJson.description,
  lang: 'en-US',
  srcDir: 'pages',
  outDir: 'dist',
  // Read by a browser from any folder of any server.
  base: process.env.SITE_BASE ?? '/',
  cleanUrls: false,
  lastUpdated: false,
  metaChunk: true,
  markdown: {
    languageAlias: { wat: 'wasm' },
    // Anchors as in the repository's own view, which the links of the pages are written for.
    anchor: { slugify: text => slug(text) },
    config: md => {
      md.use(links, { pages: PAGES, sourceUrl })
      const fence = md.renderer.rules.fence
      md.renderer.rules.fence = (tokens, index, ...rest) =>
        tokens[index].info.trim() === 'mermaid'
          ? `<Diagram source="${encodeURIComponent(tokens[index].content)}" />`
          : fence(tokens, index, ...rest)
    }
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: { level: [2, 3] },
    nav: [
      { text: 'Guide', link: linkOf(GROUPS[0].pages[0]) },
      { text: 'Reference', link: '/api/' },
      { text: 'Benchmarks', link: linkOf('BENCHMARKS.md') }
    ],
    sidebar: {
      '/': guides,
      '/api/': [{ text: 'Reference', link: '/api/', items: reference }]
    },
    footer: {
      message: `${packageJson.name} ${packageJson.version}, ${packageJson.license} licence`
    }
  }
})
