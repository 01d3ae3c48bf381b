// A package registry on loopback, which knows nothing but what is published to it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const VERDACCIO = fileURLToPath(new URL('node_modules/verdaccio/bin/verdaccio', import.meta.url))

/** A port that nobody listens on. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/**
 * Starts a registry with its files in a folder. Gives its address, what npm needs to publish to it,
 * and how it is stopped.
 */
export async function startRegistry(folder) {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}/`
  fs.mkdirSync(folder, { recursive: true })
  const config = path.join(folder, 'config.yaml')
  // No uplinks: what is not published here does not exist.
  fs.writeFileSync(
    config,
    JSON.stringify({
      storage: path.join(folder, 'storage'),
      auth: { htpasswd: { file: path.join(folder, 'htpasswd') } },
      uplinks: {},
      packages: { '**': { access: '$all', publish: '$all' } },
      max_body_size: '50mb',
      web: { enable: false },
      log: { type: 'file', path: path.join(folder, 'log'), level: 'warn' }
    })
  )
  const server = spawn(
    process.execPath,
    [VERDACCIO, '--config', config, '--listen', `127.0.0.1:${port}`],
    { stdio: ['ignore', 'ignore', 'inherit'] }
  )
  const stop = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    server.kill()
    await once(server, 'exit')
  }
  try {
    await answers(`${url}-/ping`, server)
  } catch (error) {
    await stop()
    throw error
  }
  // npm publishes nothing without a token; any will do here.
  const publishing = [`--registry=${url}`, `--//127.0.0.1:${port}/:_authToken=anybody`]
  return { url, publishing, stop }
}

/** Waits until a server answers, or has ended. */
async function answers(url, server) {
  for (;;) {
    if (server.exitCode !== null) throw new Error(`the registry ended with ${server.exitCode}`)
    try {
      const response = await fetch(url)
      if (response.ok) return
    } catch {
      // Not yet.
    }
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
