// Pages of several tenants in one PHP, the one of WordPress Playground, which is clean for each of
// them: out of a pool, beside booting one anew.
//
//   node engines/examples/php.mjs [--requests 500] [--boots 9]

import { getPHPLoaderModule } from '@php-wasm/node-8-3'
import { PHP, loadPHPRuntime } from '@php-wasm/universal'
import { InstancePool } from 'wasm-hostmap'
import { phpPending, phpState, preparePhp } from 'wasm-hostmap/php'
import { compareWithBooting } from '../support/pool-example.mjs'

const CART = `<?php
  $orders = '/tmp/orders.txt';
  file_put_contents($orders, $item . PHP_EOL, FILE_APPEND);
  echo count(file($orders));`

// The third tenant finds neither the file of the first one nor the function of the second one.
const TENANTS = [
  `<?php $item = 'lamp'; chdir('/tmp'); ini_set('memory_limit', '1G'); include '/www/cart.php';`,
  `<?php function cart() {} rename('/tmp', '/home/tmp'); mkdir('/tmp'); $item = 'chair'; include '/www/cart.php';`,
  `<?php if (function_exists('cart')) exit(1); $item = 'kettle'; include '/www/cart.php';`
]

const pool = await InstancePool.create({
  make: async () => new PHP(await loadPHPRuntime(await getPHPLoaderModule())),
  async init({ value: php }) {
    await preparePhp(php)
    php.mkdir('/www')
    php.writeFile('/www/cart.php', CART)
  },
  state: [({ value: php }) => phpState(php)()],
  pending: phpPending,
  accept: ['grown-memory']
})

const found = []
for (const code of TENANTS) {
  const { text } = await pool.run(({ value: php }) => php.run({ code }))
  found.push(Number(text))
}
console.log(`each tenant has so many orders: ${found.join(', ')}`)
if (found.some(count => count !== 1)) process.exitCode = 1
pool.close()

await compareWithBooting(['php'])
