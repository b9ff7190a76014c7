// Sockets without a provider, for what no stock client does.

import { request } from 'node:http'
import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import WebSocket from 'ws'
import * as encoding from 'lib0/encoding'
import { until, withinPatience } from './wait.js'

/** A bare WebSocket at `url`: frames received and the close, with 'activity' at each. */
export class RawClient extends EventEmitter {
  frames = []
  close = null

  constructor(url, { protocols, headers } = {}) {
    super()
    this.socket = new WebSocket(url, protocols, { headers })
    this.socket.on('open', () => this.emit('activity'))
    this.socket.on('error', error => {
      this.error = error
      this.emit('activity')
    })
    this.socket.on('message', data => {
      this.frames.push(data)
      this.emit('activity')
    })
    this.socket.on('close', (code, reason) => {
      this.close = { code, reason: reason.toString(), protocol: this.socket.protocol }
      this.emit('activity')
    })
  }

  until(predicate, what) {
    return until([this], predicate, what)
  }

  untilOpen() {
    return this.until(() => {
      if (this.error) throw this.error
      return this.socket.readyState === WebSocket.OPEN
    }, 'the handshake')
  }

  untilClosed() {
    return this.until(() => this.close, 'the server to close')
  }

  send(data) {
    this.socket.send(data)
  }

  destroy() {
    this.socket.terminate()
  }
}

/** Sync step 1 of an empty document, as y-websocket sends it first. */
export const emptyStep1 = Uint8Array.of(0, 0, 1, 0)

/** `00 02 varBytes(update)`. */
export function updateFrame(update) {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, 0)
  encoding.writeVarUint(encoder, 2)
  encoding.writeVarUint8Array(encoder, update)
  return encoding.toUint8Array(encoder)
}

/** `varString key, varUint type`, then what `body` writes. */
export function hocuspocusFrame(key, type, body = () => {}) {
  const encoder = encoding.createEncoder()
  encoding.writeVarString(encoder, key)
  encoding.writeVarUint(encoder, type)
  body(encoder)
  return encoding.toUint8Array(encoder)
}

/** One masked binary frame of less than 64 KiB (RFC 6455, 5.2). */
export function maskedFrame(payload) {
  const mask = randomBytes(4)
  const short = payload.length < 126
  const header = Buffer.alloc(short ? 2 : 4)
  header[0] = 0x82
  header[1] = 0x80 | (short ? payload.length : 126)
  if (!short) header.writeUInt16BE(payload.length, 2)
  return Buffer.concat([header, mask, payload.map((byte, at) => byte ^ mask[at % 4])])
}

/** Does the upgrade by hand and resolves with the TCP socket behind it. */
export function upgradedSocket(url) {
  const upgrade = new Promise((resolve, reject) => {
    const handshake = request(url.replace(/^ws/, 'http'), {
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
      },
    })
    handshake.on('upgrade', (_response, socket) => resolve(socket))
    handshake.on('response', response => reject(new Error(`refused with HTTP ${response.statusCode}`)))
    handshake.on('error', reject)
    handshake.end()
  })
  return withinPatience(upgrade, 'the upgrade')
}
