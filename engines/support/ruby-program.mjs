// Ruby 3.4 of ruby.wasm, over node:wasi or over @bjorn3/browser_wasi_shim.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { WASI as NodeWASI } from 'node:wasi'
import { File, OpenFile, PreopenDirectory, WASI as ShimWASI } from '@bjorn3/browser_wasi_shim'
import { RubyVM } from '@ruby/wasm-wasi'
import { wasiState } from 'wasm-hostmap/wasi'
import { rubyState } from './ruby-state.mjs'
import { shimState } from './wasi-shim-state.mjs'

const bytesOf = name =>
  readFile(new URL(import.meta.resolve(`@ruby/3.4-wasm-wasi/dist/${name}.wasm`)))

const WASIS = {
  'node:wasi': () => new NodeWASI({ version: 'preview1', returnOnExit: true }),
  shim() {
    const stream = () => new OpenFile(new File([]))
    return new ShimWASI(
      [],
      [],
      [stream(), stream(), stream(), new PreopenDirectory('/', new Map())],
      {
        debug: false
      }
    )
  }
}

/**
 * A Ruby that has just started: `vm`, `wasi`, `instance`, `imports`, and `descriptors`, a state
 * function. `file` is 'ruby', or 'ruby+stdlib' with the standard library, which takes longer.
 */
export async function makeRuby({ wasi: which = 'shim', file = 'ruby' } = {}) {
  const module = await WebAssembly.compile(await bytesOf(file))
  const wasi = WASIS[which]()
  // Before the instance is made, which takes the functions of node:wasi.
  const descriptors = wasi instanceof NodeWASI ? wasiState(wasi) : shimState(wasi)
  let imports
  const { vm, instance } = await RubyVM.instantiateModule({
    module,
    wasip1: wasi,
    // Without RubyGems, which needs the standard library.
    args: ['ruby.wasm', '-EUTF-8', ...(file === 'ruby' ? ['--disable-gems'] : []), '-e_=0'],
    addToImports(all) {
      imports = all
    }
  })
  return { vm, wasi, instance, imports, descriptors }
}

/** Ruby's own code that is loaded when it is first used is loaded once. */
const PREPARE = `
  require 'js'
  JS.eval('return 1').to_i
  nil
`

const poolOptions = options => ({
  make: () => makeRuby(options),
  init: ({ value: { vm } }) => void vm.eval(PREPARE),
  // Random numbers of Ruby's are computed from a seed, which would be that of the boot.
  before: ({ value: { vm } }) => void vm.eval('Random.srand; nil'),
  state: [
    ({ value: { vm, imports } }) => rubyState(vm, imports)(),
    ({ value: { descriptors } }) => descriptors()
  ],
  accept: ['grown-memory']
})

/** A script: it opens classes, keeps globals, raises and rescues, and writes a file. */
const scriptOf = n => `
  class Item
    attr_reader :name, :price
    @@count = 0
    def initialize(name, price)
      @name, @price = name, price
      @@count += 1
    end
    def self.count = @@count
  end
  class String
    def shout = upcase + '!'
  end
  $visits = ($visits || 0) + 1
  items = (1..20).map { |i| Item.new("item #{i}", i * (${n} % 7 + 1)) }
  File.write('/orders', 'order ${n}') rescue nil
  error = begin
    Integer('none')
  rescue ArgumentError => e
    e.class.name
  end
  [$visits, Item.count, items.sum(&:price), items.map(&:name).first.shout, error].join(' ')
`

/** What Ruby shows of itself. */
export const DIGEST = `
  GC.start
  [
    global_variables.sort.map { |name| [name, (eval(name.to_s).class rescue nil)] },
    Object.constants.sort,
    Object.private_instance_methods(false).sort,
    String.instance_methods(false).sort,
    ObjectSpace.each_object(Module).count,
    Symbol.all_symbols.size,
    $LOADED_FEATURES, $LOAD_PATH, $PROGRAM_NAME, $0, $;, $/,
    (Dir.pwd rescue nil), (Dir.children('/').sort rescue nil),
    ENV.to_h, Encoding.default_internal, Encoding.default_external.name,
    Thread.list.size, Thread.main.keys, Signal.list.size,
    ObjectSpace.each_object(IO).map { |io| [io.closed? ? nil : io.fileno, io.inspect] }.sort_by(&:to_s),
    $!, $VERBOSE, $DEBUG, GC.stress, GC.disable, RubyVM.stat(:next_shape_id)
  ].inspect
`

export const program = {
  name: 'Ruby',
  package: '@ruby/3.4-wasm-wasi',
  bar: 100,
  nodes: '>=20',
  poolOptions: (options = {}) => poolOptions(options),
  request: ({ value: { vm } }, n) => vm.eval(scriptOf(n)).toString(),
  check: (answer, n) => assert.equal(answer, `1 20 ${210 * ((n % 7) + 1)} ITEM 1! ArgumentError`),
  digest: ({ value: { vm } }) => vm.eval(DIGEST).toString()
}
