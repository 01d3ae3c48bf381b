// Keeps a processor busy until its parent ends: it adds numbers, and touches no memory.

process.on('disconnect', () => process.exit())
const turn = () => {
  for (let i = 0; i < 1e6; i++);
  setImmediate(turn)
}
turn()
