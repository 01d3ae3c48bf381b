'use strict'

// Taking a buffer from its holder, as a transfer to another thread would: the holder's is detached.
// What may not be transferred stays: Node.js marks buffers of its own and of addons, V8 those of
// memories.
//
// What is taken is kept as a message that nobody has received. So no buffer is made for it, which
// V8 would count, and collect garbage for where it has counted much.

const { MessageChannel, MessagePort, receiveMessageOnPort } = require('node:worker_threads')
const { isStackEnd } = require('../support/stack.js')

// Taken now, like those of v8.js.
const { ArrayBuffer } = globalThis

const { call } = Function.prototype
const postMessage = call.bind(MessagePort.prototype.postMessage)
const close = call.bind(MessagePort.prototype.close)

/**
 * Whether a buffer can be taken. Nothing happens to it: the message can't be made. Its parts are
 * asked for only where nothing in the list is refused, and a buffer that is there twice is, but
 * only one that could be there once. Those that can't are refused, too, or left out and copied
 * (Node.js 20). No words of errors tell, which scripts may have changed.
 */
const isTransferable = buffer => !isTaken([buffer, buffer]) && isTaken([buffer])

// For messages that are never sent.
let port

/** Whether Node.js would take what is in the list. It takes nothing. */
function isTaken(list) {
  port ??= new MessageChannel().port1
  let isAsked = false
  const message = {
    __proto__: null,
    get part() {
      isAsked = true
      throw NO_PART
    }
  }
  try {
    postMessage(port, message, list)
  } catch (error) {
    if (isStackEnd(error)) throw error
  }
  return isAsked
}

const NO_PART = Symbol('no part')

/** Channels without a message, to be used again: a new one takes 25 us. */
const idle = []
const MOST_IDLE = 16

/** A buffer that was taken, until somebody wants it back. */
class TakenBuffer {
  #ports = idle.pop() ?? new MessageChannel()
  #buffer
  #isFull = false

  constructor() {
    // Ports that nobody closes live as long as their thread. The receiver's: a message that it has
    // not received keeps it from hearing that the other one was closed.
    forgotten.register(this, this.#ports.port2, this)
  }

  take(buffer) {
    this.#isFull = true
    postMessage(this.#ports.port1, buffer, [buffer])
  }

  /**
   * Whether the buffer is still kept. Not where somebody closed a port, which async_hooks show to
   * all: then V8 has freed it, or soon will. A port takes a message only if both are open.
   */
  isThere() {
    if (!this.#isFull) return false
    const { port1, port2 } = this.#ports
    const isOpen = postMessage(port2, null) === true
    if (isOpen) receiveMessageOnPort(port1)
    return isOpen
  }

  /** The buffer that has its bytes, at the same address; undefined where it was lost. */
  receive() {
    if (this.#isFull) {
      // None: a call that received it ended before it had it (the end of the stack, a time limit).
      this.#buffer = receiveMessageOnPort(this.#ports.port2)?.message
      this.#isFull = false
      this.drop()
    }
    return this.#buffer
  }

  /** Lets it go. V8 frees its bytes. */
  drop() {
    const ports = this.#ports
    if (ports === null) return
    this.#ports = null
    forgotten.unregister(this)
    if (this.#isFull || idle.length >= MOST_IDLE) close(ports.port2)
    else idle.push(ports)
  }
}

const forgotten = new FinalizationRegistry(close)

/** So many zeros; undefined where there is no memory for them. */
function newBuffer(byteLength) {
  try {
    return new ArrayBuffer(byteLength)
  } catch (error) {
    if (isStackEnd(error)) throw error
    return undefined
  }
}

module.exports = { isTransferable, TakenBuffer, newBuffer }
