// Other people's servers: pages of other origins, and a connection that can be cut.

import { createServer } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import { once } from 'node:events'

async function listening(server) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server.address().port
}

/** A web server whose every page is empty. */
export async function startOtherSite() {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html' })
    response.end('<!doctype html><title>another site</title>')
  })
  const port = await listening(server)
  return {
    port,
    stop() {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** A network between a browser and the node at `port`. While it is cut, what runs ends and nothing new comes through. */
export async function startNetwork(port) {
  const sockets = new Set()
  let isCut = false
  const server = createTcpServer(near => {
    if (isCut) return near.resetAndDestroy()
    const far = connect(port, '127.0.0.1')
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from)
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
      from.pipe(to)
    }
  })
  return {
    port: await listening(server),
    cut() {
      isCut = true
      for (const socket of sockets) socket.resetAndDestroy()
    },
    mend() {
      isCut = false
    },
    stop() {
      this.cut()
      server.close()
    },
  }
}
