// A server of ranges in a process of its own: zeros, as many as the first argument says.

import http from 'node:http'

const total = Number(process.argv[2])
const block = Buffer.alloc(2 ** 20)

const server = http.createServer((request, response) => {
  const asked = /^bytes=(?<first>\d+)-(?<last>\d+)$/.exec(request.headers.range ?? '')?.groups
  const first = Number(asked?.first ?? 0)
  const last = Math.min(Number(asked?.last ?? total - 1), total - 1)
  response.writeHead(asked === undefined ? 200 : 206, {
    etag: '"1"',
    'content-length': last - first + 1,
    ...(asked && { 'content-range': `bytes ${first}-${last}/${total}` })
  })
  let left = last - first + 1
  const write = () => {
    while (left > 0) {
      const length = Math.min(left, block.length)
      left -= length
      if (!response.write(block.subarray(0, length))) return response.once('drain', write)
    }
    response.end()
  }
  write()
})
server.listen(0, () => process.send(server.address().port))
process.on('disconnect', () => process.exit())
