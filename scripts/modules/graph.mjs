// Arrows between files: circles, arrows that go up, and which arrows a drawing needs.

/** The groups of nodes that reach each other (Tarjan), of two nodes or more. */
export function circles(nodes, targetsOf) {
  const index = new Map()
  const low = new Map()
  const stack = []
  const found = []
  const visit = node => {
    index.set(node, index.size)
    low.set(node, index.get(node))
    stack.push(node)
    for (const target of targetsOf(node)) {
      if (!index.has(target)) {
        visit(target)
        low.set(node, Math.min(low.get(node), low.get(target)))
      } else if (stack.includes(target)) {
        low.set(node, Math.min(low.get(node), index.get(target)))
      }
    }
    if (low.get(node) !== index.get(node)) return
    const group = stack.splice(stack.indexOf(node))
    if (group.length > 1) found.push(group)
  }
  for (const node of nodes) if (!index.has(node)) visit(node)
  return found
}

/** The shortest way from a node back to itself inside a group that has one. */
export function shortestCircle(group, targetsOf) {
  let shortest
  for (const start of group) {
    const previous = new Map()
    const queue = [start]
    while (queue.length > 0 && !previous.has(start)) {
      const node = queue.shift()
      for (const target of targetsOf(node)) {
        if (!group.includes(target) || previous.has(target)) continue
        previous.set(target, node)
        queue.push(target)
      }
    }
    const way = [start]
    for (let node = previous.get(start); node !== start; node = previous.get(node))
      way.unshift(node)
    way.unshift(start)
    if (!shortest || way.length < shortest.length) shortest = way
  }
  return shortest
}

/** Without the arrows that a longer way says already. Needs a graph without circles. */
export function reduced(nodes, targetsOf) {
  const reach = new Map()
  const reachOf = node => {
    if (!reach.has(node)) {
      reach.set(node, new Set())
      for (const target of targetsOf(node)) {
        reach.get(node).add(target)
        for (const further of reachOf(target)) reach.get(node).add(further)
      }
    }
    return reach.get(node)
  }
  return new Map(
    nodes.map(node => {
      const targets = [...targetsOf(node)]
      return [
        node,
        targets.filter(
          target => !targets.some(other => other !== target && reachOf(other).has(target))
        )
      ]
    })
  )
}
