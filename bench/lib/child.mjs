// Runs one case of one benchmark in its own process, so that no benchmark pays for another one's
// heap, mappings or optimizations. run.mjs starts `child.mjs MODULE_URL CASE_JSON` and gets the
// result over the IPC channel.

const [moduleUrl, caseJson] = process.argv.slice(2)
const { measure } = await import(moduleUrl)

const onProgress = fraction => process.send({ progress: fraction })
const result = await measure(JSON.parse(caseJson), onProgress)
process.send({ result }, () => process.disconnect())
