// What ruby.wasm keeps in JavaScript: tables of what each half has of the other. Ruby holds values
// of JavaScript's by their index in one table (JS::Object), and JavaScript passes Ruby's values
// through another. The memory that comes back holds indices of then.

/**
 * A state function for a Ruby of @ruby/wasm-wasi.
 *
 * @param vm a RubyVM
 * @param imports what `addToImports` of `RubyVM.instantiateModule` was given
 */
export function rubyState(vm, imports) {
  const slabs = [vm.guest._resource0_slab, slabOfImports(vm, imports)]
  const { interfaceState, transport } = vm
  return () => {
    const restores = slabs.map(slabState)
    const calling = { ...interfaceState }
    const taken = { ...transport }
    return () => {
      for (const restore of restores) restore()
      // A trap leaves it as it was during a call.
      Object.assign(interfaceState, calling)
      Object.assign(transport, taken)
    }
  }
}

function slabState(slab) {
  const { head } = slab
  const slots = slab.list.map(slot => ({ ...slot }))
  // A value of Ruby's that is dropped loses its fields.
  const values = slots
    .filter(({ next, val }) => next === -1 && isCounted(val))
    .map(({ val }) => [val, { ...val }])
  return () => {
    slab.list.length = 0
    for (const slot of slots) slab.list.push({ ...slot })
    slab.head = head
    for (const [value, fields] of values) Object.assign(value, fields)
  }
}

const isCounted = value => typeof value === 'object' && value !== null && '_refcnt' in value

/**
 * The table of JavaScript's values is in a variable of a function. Both tables are of one class,
 * whose `insert` tells it when Ruby is given a number.
 */
function slabOfImports(vm, imports) {
  const { prototype } = vm.guest._resource0_slab.constructor
  const { insert } = prototype
  let slab
  prototype.insert = function (value) {
    slab = this
    return insert.call(this, value)
  }
  try {
    const handle = imports['rb-js-abi-host'][GIVE_NUMBER](0)
    imports.canonical_abi['resource_drop_js-abi-value'](handle)
  } finally {
    prototype.insert = insert
  }
  return slab
}

const GIVE_NUMBER = 'int-to-js-number: func(value: s32) -> handle<js-abi-value>'
