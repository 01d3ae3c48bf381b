// A thread that reads parts of a file with its own memory and window.

import { parentPort, workerData } from 'node:worker_threads'
import { HostRegion } from '../../index.mjs'
import { streamByWindow, streamMemory } from './stream.mjs'

const { module, file } = workerData
const region = HostRegion.open(file)
const guarded = streamMemory()

parentPort.on('message', options =>
  parentPort.postMessage(streamByWindow(module, guarded, region, options))
)
parentPort.postMessage('ready')
