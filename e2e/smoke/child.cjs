'use strict'
// A child process of a part: node child.cjs PACKAGE TOKEN. It receives the region and writes to it;
// then it ends by a fault that is none of the fault guard's.
const [, , directory, token] = process.argv
const { HostRegion, limits } = require(directory)

const region = HostRegion.receive(JSON.parse(token))
new BigUint64Array(region.view())[1] = 4242n
limits()
process.kill(process.pid, 'SIGSEGV')
setTimeout(() => {}, 10_000)
