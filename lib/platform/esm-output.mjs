// Looks whether this is part of an ES module that esbuild has written. There, what CommonJS code
// requires of Node.js throws an error that tells nobody what to do. It is thrown with our words
// before the first of our code runs. In all other modules there is no `require` here, or it works.
// (docs/bundlers.md)

/* eslint-disable no-undef -- there is none in an ES module */
if (typeof require === 'function') {
  try {
    require('node:path')
  } catch (cause) {
    const error = new Error(
      "wasm-hostmap can't be loaded: its code is part of an ES module by esbuild, which has no `require` for it.\n" +
        '  1. Leave the package out of the bundle, and install it where the bundle runs: --external:wasm-hostmap\n' +
        '  2. Or let esbuild write CommonJS: --format=cjs',
      { cause }
    )
    error.code = 'ERR_HOSTMAP_LOAD_FAILED'
    throw error
  }
}
