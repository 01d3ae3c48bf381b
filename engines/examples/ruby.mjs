// Scripts of several tenants in one Ruby, which is clean for each of them: out of a pool, beside
// booting one anew.
//
//   node engines/examples/ruby.mjs [--requests 500] [--boots 9]

import { InstancePool } from 'wasm-hostmap'
import { compareWithBooting } from '../support/pool-example.mjs'
import { program } from '../support/ruby-program.mjs'

// The third tenant finds no method that the second one has broken, and nobody's cart.
const TENANTS = [
  '$cart ||= []; $cart << "lamp"; $cart.size',
  'class Array; def <<(item) = replace([1, 2, 3]); end; $cart = []; $cart << "chair"; 1',
  '$cart ||= []; $cart << "kettle"; $cart.size'
]

const pool = await InstancePool.create(program.poolOptions())

const found = []
for (const script of TENANTS) {
  found.push(await pool.run(({ value: { vm } }) => Number(vm.eval(script).toString())))
}
console.log(`each tenant has so much in its cart: ${found.join(', ')}`)
if (found.some(count => count !== 1)) process.exitCode = 1
// The same numbers for all, but for the seed that each request is given: see ruby-program.mjs.
const roll = () => pool.run(({ value: { vm } }) => vm.eval('rand').toString())
console.log(`a random number of each: ${await roll()}, ${await roll()}`)
pool.close()

await compareWithBooting(['ruby'])
