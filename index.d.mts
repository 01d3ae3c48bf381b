import hostmap = require('./index.js')

export * from './index.js'
export default hostmap
