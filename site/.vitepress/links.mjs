// What a link of a page means on the site. The pages are written for readers of the repository:
// their links are relative paths of files.

import fs from 'node:fs'
import path from 'node:path'

const isOutside = href => /^[a-z][a-z0-9+.-]*:|^\/\/|^#/i.test(href)

/**
 * A plugin for markdown-it. A link to a page goes to that page; one to any other file of the
 * repository goes to `sourceUrl`, or, where there is none, is its text alone.
 */
export function links(md, { pages, sourceUrl }) {
  md.core.ruler.after('inline', 'repository-links', state => {
    const folder = path.dirname(state.env.relativePath ?? '')
    for (const block of state.tokens) {
      if (block.type !== 'inline') continue
      let isDropped = false
      block.children = block.children.filter(token => {
        if (token.type === 'link_close' && isDropped) {
          isDropped = false
          return false
        }
        if (token.type !== 'link_open') return true
        const href = resolve(token.attrGet('href'), folder)
        if (href === undefined) isDropped = true
        else token.attrSet('href', href)
        return !isDropped
      })
    }
  })

  function resolve(href, folder) {
    if (isOutside(href)) return href
    const [file, hash] = href.split('#')
    const target = path.posix.join(folder, decodeURI(file)).replace(/README\.md$/, 'index.md')
    const anchor = hash === undefined ? '' : `#${hash}`
    const page = [target, path.posix.join(target, 'index.md')].find(
      name => name.endsWith('.md') && fs.existsSync(path.join(pages, name))
    )
    if (page !== undefined) return `${path.posix.relative(folder, page)}${anchor}`
    return sourceUrl === undefined ? undefined : `${sourceUrl}/${target}${anchor}`
  }
}
