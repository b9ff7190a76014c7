// One face for five unmodified clients.

import { EventEmitter } from 'node:events'
import assert from 'node:assert/strict'
import * as Y from 'yjs'
import { Awareness } from 'y-protocols/awareness'
import WebSocket from 'ws'
import * as yWebsocket2 from 'y-websocket-2'
import * as yWebsocket3 from 'y-websocket-3'
import * as hocuspocus2 from '@hocuspocus/provider-2'
import * as hocuspocus3 from '@hocuspocus/provider-3'
import * as hocuspocus4 from '@hocuspocus/provider-4'
import { followingHocuspocus, followingYWebsocket } from './documented.js'
import { PATIENCE_MS, until } from './wait.js'

const LIBRARIES = {
  'y-websocket-2': yWebsocket2,
  'y-websocket-3': yWebsocket3,
  'hocuspocus-2': hocuspocus2,
  'hocuspocus-3': hocuspocus3,
  'hocuspocus-4': hocuspocus4,
}

/** Every kind of client, or those named in PINWIRE_CLIENT_KINDS (comma separated) while working on the rig. */
export const KINDS = process.env.PINWIRE_CLIENT_KINDS?.split(',') ?? Object.keys(LIBRARIES)
export const Y_WEBSOCKET_KINDS = KINDS.filter(kind => !isHocuspocus(kind))
export const HOCUSPOCUS_KINDS = KINDS.filter(isHocuspocus)

export function isHocuspocus(kind) {
  return kind.startsWith('hocuspocus')
}

// Each provider listens for the end of the process.
process.setMaxListeners(0)

let documents = 0
/** A document name no other test uses. */
export const freshName = (label = 'doc') => `${label}-${process.pid}-${++documents}`

/**
 * Everything the wire shows of one socket owner: dials, closes, errors. Shared by the documents of a Hocuspocus socket.
 * Emits 'activity' at each change.
 */
class Line extends EventEmitter {
  /** Times of dials, in ms of `performance.now()`. */
  dials = []
  /** `{code, reason, protocol, at}` of every socket that was opened, or refused, and is closed now. */
  closes = []
  errors = []
  /** Messages that came on the present socket, and the last of them. */
  received = 0
  last = null
  socket = null

  constructor({ origin, protocols }) {
    super()
    this.setMaxListeners(0)
    const line = this
    // Providers construct their sockets themselves; this is the class they are given.
    this.WebSocket = class extends WebSocket {
      constructor(url, offered) {
        super(url, protocols ?? offered, origin === undefined ? {} : { origin })
        line.#dialled(this)
      }
    }
  }

  #dialled(socket) {
    this.socket = socket
    this.received = 0
    this.last = null
    this.dials.push(performance.now())
    socket.on('open', () => this.emit('activity'))
    // Providers look at a message first; then the waiting test does.
    socket.on('message', message => {
      if (socket === this.socket) {
        this.received += 1
        this.last = message
      }
      setImmediate(() => this.emit('activity'))
    })
    socket.on('error', error => {
      this.errors.push(error.message)
      this.emit('activity')
    })
    socket.on('close', (code, reason) => {
      this.closes.push({ code, reason: reason.toString(), protocol: socket.protocol, at: performance.now() })
      setImmediate(() => this.emit('activity'))
    })
    this.emit('activity')
  }

  /** The present socket in words, for failures. */
  toString() {
    const state = ['connecting', 'open', 'closing', 'closed'][this.socket?.readyState] ?? 'none'
    const last = this.last === null ? '' : `, last ${this.last.length} bytes ${this.last.toString('hex', 0, 60)}`
    return `dials ${this.dials.length}, socket ${state}, received ${this.received}${last}`
  }

  closedSocket(socket) {
    return socket === null || socket.readyState === WebSocket.CLOSED
  }
}

/** A library of Yjs whose next document is `doc`. */
const given = doc => ({
  Doc: function Doc() {
    return doc
  },
})

/** A document opened by one client. */
class Client extends EventEmitter {
  /** Reasons of refusals a Hocuspocus provider was told. */
  denials = []
  /** Scopes a Hocuspocus provider was authorised with ("read-write" or "readonly"). */
  scopes = []
  stateless = []
  destroyed = false

  constructor(kind, line, doc, awareness) {
    super()
    this.setMaxListeners(0)
    Object.assign(this, { kind, line, doc, awareness })
    const active = () => this.emit('activity')
    line.on('activity', active)
    doc.on('afterTransaction', active)
    awareness?.on('update', active)
  }

  get dials() {
    return this.line.dials.length
  }

  get closes() {
    return this.line.closes
  }

  /** The first step-2 exchange of the present connection is done. */
  get synced() {
    return this.connected && this.provider.synced
  }

  get connected() {
    return this.line.socket?.readyState === WebSocket.OPEN
  }

  /** Changes a Hocuspocus server has not acknowledged; undefined for y-websocket, which has no acknowledgements. */
  get unsynced() {
    return this.provider.unsyncedChanges
  }

  until(predicate, what, timeoutMs = PATIENCE_MS) {
    return until([this], predicate, () => `${this.kind}: ${typeof what === 'function' ? what() : what}; ${this}`, timeoutMs)
  }

  untilSynced() {
    return this.until(() => this.synced, 'first sync')
  }

  untilAcknowledged() {
    return this.until(() => this.synced && this.unsynced === 0, 'every change acknowledged')
  }

  /** The state of another client as this one sees it; undefined when gone. */
  sees(other) {
    return this.awareness.getStates().get(other.doc.clientID)
  }

  /** Leaves politely and stays away. */
  async disconnect() {
    const { socket } = this.line
    this.stopDialling()
    await this.until(() => this.line.closedSocket(socket), 'its socket to close')
  }

  connect() {
    this.startDialling()
  }

  /** Cuts the TCP connection, as a lost network does; the client redials by itself. */
  cut() {
    this.line.socket?.terminate()
  }

  /** Cuts the TCP connection and never comes back, as a killed process does. */
  kill() {
    this.halt()
    this.line.socket?.terminate()
    this.destroy()
  }

  toString() {
    const last = this.closes.at(-1)
    const closed = last === undefined ? '' : `, last close ${last.code} "${last.reason}"`
    const denied = this.denials.length === 0 ? '' : `, denied "${this.denials.at(-1)}"`
    const failed = this.line.errors.length === 0 ? '' : `, last error "${this.line.errors.at(-1)}"`
    const unsynced = this.unsynced === undefined ? '' : `, unsynced ${this.unsynced}`
    return `${this.kind} on ${this.name} (${this.line}, synced ${this.synced}${unsynced}${closed}${denied}${failed})`
  }
}

class YWebsocketClient extends Client {
  constructor(kind, line, options) {
    super(kind, line, options.doc, options.awareness)
    const { token, tokenVia = 'query', url, document, connect, follows } = options
    const offered = { subprotocol: ['access_token', token], bearer: ['Bearer', token] }[tokenVia] ?? []
    this.name = document
    const { doc, awareness } = this
    const WebsocketProvider = class extends LIBRARIES[kind].WebsocketProvider {
      constructor(url, name, doc, options) {
        // Without the channel, clients of one process would sync behind the server's back.
        super(url, name, doc, { ...options, connect, awareness, WebSocketPolyfill: line.WebSocket, disableBc: true })
      }
    }
    this.provider = follows
      ? followingYWebsocket(url, document, { Y: given(doc), WebsocketProvider, token })
      : new WebsocketProvider(url, document, doc, {
          params: tokenVia === 'query' && token !== undefined ? { token } : {},
          protocols: offered,
        })
    for (const event of ['status', 'sync']) this.provider.on(event, () => this.emit('activity'))
  }

  startDialling() {
    this.provider.connect()
  }

  stopDialling() {
    this.provider.disconnect()
  }

  halt() {
    this.provider.shouldConnect = false
  }

  destroy() {
    if (this.destroyed) return
    this.destroyed = true
    this.provider.destroy()
    this.awareness.destroy()
  }
}

class HocuspocusClient extends Client {
  constructor(kind, line, socketProvider, options) {
    super(kind, line, options.doc, options.awareness)
    const { token, tokenVia = 'in-band', document, ownsSocket, sessionAwareness, follows, url } = options
    this.name = document
    this.ownsSocket = ownsSocket
    const active = () => this.emit('activity')
    const more = {
      awareness: this.awareness,
      // Otherwise clients of one process would sync behind the server's back (2.15 has this switch).
      broadcast: false,
      ...(sessionAwareness ? { sessionAwareness } : {}),
      onAuthenticated: () => {
        this.scopes.push(this.provider.authorizedScope)
        active()
      },
      onAuthenticationFailed: ({ reason }) => {
        this.denials.push(reason)
        active()
      },
      onStateless: ({ payload }) => {
        this.stateless.push(payload)
        active()
      },
      onSynced: active,
    }
    const HocuspocusProvider = class extends LIBRARIES[kind].HocuspocusProvider {
      constructor(options) {
        super({ ...options, ...more })
      }
    }
    this.provider = follows
      ? withWebSocket(line.WebSocket, () =>
          followingHocuspocus(url, document, { Y: given(this.doc), HocuspocusProvider, token }),
        )
      : new HocuspocusProvider({
          websocketProvider: socketProvider,
          name: document,
          document: this.doc,
          token: tokenVia === 'in-band' ? (token ?? null) : null,
        })
    this.socketProvider = this.provider.configuration.websocketProvider
    this.provider.on('unsyncedChanges', active)
    this.provider.on('status', active)
    // From version 3 on a provider that is given its socket has to be attached.
    if (!follows) this.provider.attach?.()
  }

  startDialling() {
    this.socketProvider.connect()
  }

  stopDialling() {
    this.socketProvider.disconnect()
  }

  halt() {
    this.socketProvider.shouldConnect = false
  }

  destroy() {
    if (this.destroyed) return
    this.destroyed = true
    this.provider.destroy()
    if (this.ownsSocket) destroySocket(this.socketProvider)
  }
}

/** Makes something while `WebSocket` is the global one, as Hocuspocus takes it in Node.js. */
function withWebSocket(WebSocket, make) {
  const before = globalThis.WebSocket
  globalThis.WebSocket = WebSocket
  try {
    return make()
  } finally {
    globalThis.WebSocket = before
  }
}

function destroySocket(socketProvider) {
  socketProvider.destroy()
  // 3.4 destroyed within a second of a close redials all the same, for ever.
  socketProvider.connect = async () => {}
}

/** A Hocuspocus socket for several documents: `open({document, token, ...})` each. */
export function openSocket(kind, { url, origin, protocols, urlToken, connect = true }) {
  assert.ok(isHocuspocus(kind))
  const line = new Line({ origin, protocols })
  const socketProvider = new LIBRARIES[kind].HocuspocusProviderWebsocket({
    url: urlToken === undefined ? url : `${url}/?token=${urlToken}`,
    WebSocketPolyfill: line.WebSocket,
    // The switch is called `connect` in 2.15 and `autoConnect` from version 3 on.
    connect,
    autoConnect: connect,
  })
  return {
    line,
    socketProvider,
    open: options => new HocuspocusClient(kind, line, socketProvider, { ...withDoc(options), ownsSocket: false }),
    destroy: () => destroySocket(socketProvider),
  }
}

/**
 * Opens `document` at `url` with a client of `kind`.
 *
 * `token` travels as the kind's users do it (query for y-websocket, in-band for Hocuspocus) unless `tokenVia` says 'query',
 * 'subprotocol', 'bearer' or 'in-band'. `origin` sends that Origin header. `doc` and `awareness` default to fresh ones. With
 * `follows` it is made by the lines of docs/clients.md that follow redirects.
 */
export function openClient(kind, options) {
  const { url, origin, token, tokenVia } = options
  const filled = { connect: true, ...withDoc(options) }
  if (!isHocuspocus(kind)) return new YWebsocketClient(kind, new Line({ origin }), filled)

  if (filled.follows) return new HocuspocusClient(kind, new Line({ origin }), null, { ...filled, ownsSocket: true })
  const protocols = { subprotocol: ['access_token', token], bearer: ['Bearer', token] }[tokenVia]
  const urlToken = tokenVia === 'query' ? token : undefined
  const { line, socketProvider } = openSocket(kind, { url, origin, protocols, urlToken, connect: filled.connect })
  return new HocuspocusClient(kind, line, socketProvider, { ...filled, ownsSocket: true })
}

function withDoc(options) {
  const doc = options.doc ?? new Y.Doc()
  return { ...options, doc, awareness: options.awareness ?? new Awareness(doc) }
}

/** Opens clients and destroys all of them at the end of the test `t`. */
export function clientPool(t, node) {
  const opened = []
  t.after(() => {
    for (const client of opened) client.destroy()
  })
  return {
    open(kind, document, options = {}) {
      const client = openClient(kind, { url: node.url, token: node.token, document, ...options })
      opened.push(client)
      return client
    },
    socket(kind, options = {}) {
      const socket = openSocket(kind, { url: node.url, ...options })
      opened.push(socket)
      return {
        ...socket,
        open(document, more = {}) {
          const client = socket.open({ token: node.token, document, ...more })
          opened.unshift(client)
          return client
        },
      }
    },
  }
}
