'use strict'

// Kinds of async resources, by Node's names: which call back, how often, and how to see that they
// will not again.

const providers = new Set(Object.keys(require('node:async_hooks').asyncWrapProviders))

/** Call back as long as they are open. */
const OPEN = new Set([
  'DTLS_ENDPOINT',
  'FSEVENTWRAP',
  'PIPESERVERWRAP',
  'PIPEWRAP',
  'PROCESSWRAP',
  'QUIC_ENDPOINT',
  'QUIC_UDP',
  'SIGNALWRAP',
  'STATWATCHER',
  'TCPSERVERWRAP',
  'TCPWRAP',
  'TTYWRAP',
  'UDPWRAP',
  'WORKER'
])

/** Call nothing by themselves: what they need to do so is another resource. */
const QUIET = new Set([
  'BLOBREADER',
  'DIRHANDLE',
  'DNSCHANNEL',
  'DTLS_SESSION',
  'ELDHISTOGRAM',
  'FILEHANDLE',
  'HEAPSNAPSHOT',
  'HTTP2SESSION',
  'HTTP2STREAM',
  'HTTPCLIENTREQUEST',
  'HTTPINCOMINGMESSAGE',
  'JSSTREAM',
  'JSUDPWRAP',
  'NONE',
  'QUIC_LOGSTREAM',
  'QUIC_PACKET',
  'QUIC_SESSION',
  'QUIC_STREAM',
  'SIGINTWATCHDOG',
  'STREAMPIPE',
  'TLSWRAP'
])

/** What is closed, or failed to begin, has its id no more. */
const isThere = (resource, id) =>
  (typeof resource.getAsyncId !== 'function' || resource.getAsyncId() === id) && !isDone(resource)

/** Jobs of crypto whose caller waited for them, such as randomFillSync, have no callback. */
const isDone = ({ run, ondone }) => typeof run === 'function' && typeof ondone !== 'function'

// Descriptors of the process's output, of which the first that prints in a process makes handles.
const isOutput = ({ fd }) => fd === 1 || fd === 2

/** Only a handle that is open can be told to keep the process alive. */
function isOpenPort(port) {
  if (port.hasRef()) return true
  port.ref()
  const isOpen = port.hasRef()
  port.unref()
  return isOpen
}

const timer = ({ _destroyed }) => _destroyed !== true

/** Of each kind that is looked at: whether a resource of that kind may call back. */
const WATCHED = new Map([
  ['Timeout', timer],
  ['Immediate', timer],
  ['MESSAGEPORT', port => port.listenerCount('message') > 0 && isOpenPort(port)],
  // Has a buffer while it works.
  ['ZLIB', ({ buffer }) => typeof buffer === 'object' && buffer !== null],
  ...[...OPEN].map(kind => [kind, (resource, id) => isThere(resource, id) && !isOutput(resource)]),
  // Of terminals only input calls back.
  ['TTYWRAP', (resource, id) => isThere(resource, id) && resource.reading === true]
])

// Made by Node, in JavaScript.
const ONCE = new Set(['TickObject', 'Microtask'])

/** 'watched', 'once', or undefined for what calls nothing. */
function kindOf(type) {
  if (WATCHED.has(type)) return 'watched'
  if (ONCE.has(type)) return 'once'
  // What scripts make under a name of their own is theirs to call.
  return providers.has(type) && !QUIET.has(type) && type !== 'PROMISE' ? 'once' : undefined
}

/** Whether something may still call back, whose end was not noted. */
function mayCall({ id, type, resource }) {
  try {
    return (WATCHED.get(type) ?? isThere)(resource, id)
  } catch {
    // What can't be asked may.
    return true
  }
}

module.exports = { kindOf, mayCall, OPEN, QUIET }
