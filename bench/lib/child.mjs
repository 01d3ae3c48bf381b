// Runs one case of one benchmark in a process of its own, so that no benchmark pays for the heap,
// the mappings or the optimizations of another. Started by run.mjs: `child.mjs MODULE_URL
// CASE_JSON`, and answers over the IPC channel.

const [moduleUrl, caseJson] = process.argv.slice(2)
const { measure } = await import(moduleUrl)

const onProgress = fraction => process.send({ progress: fraction })
const result = await measure(JSON.parse(caseJson), onProgress)
process.send({ result }, () => process.disconnect())
