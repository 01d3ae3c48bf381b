// What onnxruntime-web imports in place of its own Emscripten module: `env.wasm.wasmPaths.mjs`. It
// makes that module as ever, and shows it to the adapter, which has asked for it by a number in
// this file's URL. Nothing else is done here.

import onnx from '../onnx.js'

const asked = Number(new URL(import.meta.url).searchParams.get('for'))

export default config => onnx.makeModule(asked, config)
