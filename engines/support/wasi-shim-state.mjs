// The JavaScript half of a program over @bjorn3/browser_wasi_shim: its descriptors, and the tree of
// files that it keeps in Maps and Uint8Arrays. All of it is plain objects, so a state function of
// one's own is short.

/** A state function for a WASI of the shim. Going back copies all files: for small ones. */
export const shimState = wasi => () => {
  const descriptors = [...wasi.fds]
  const fields = descriptors.filter(Boolean).map(it => [it, { ...it }])
  const folders = []
  const files = []
  const seen = new Set()
  const visit = inode => {
    if (inode === undefined || seen.has(inode)) return
    seen.add(inode)
    if (inode.contents instanceof Map) {
      folders.push([inode.contents, [...inode.contents]])
      for (const child of inode.contents.values()) visit(child)
    } else if (inode.data instanceof Uint8Array) {
      files.push([inode, inode.data.slice()])
    }
  }
  for (const [{ file, dir }] of fields) visit(file ?? dir)
  return () => {
    wasi.fds.splice(0, Infinity, ...descriptors)
    for (const [descriptor, kept] of fields) Object.assign(descriptor, kept)
    for (const [contents, entries] of folders) {
      contents.clear()
      for (const [name, inode] of entries) contents.set(name, inode)
    }
    for (const [file, data] of files) file.data = data.slice()
  }
}
