// The backend of the example: it says who may open what. Yours does the same for the user of the session's cookie.

import { createHmac } from 'node:crypto'

/** A token is good for this long; the editor asks for another whenever it connects. */
const TOKEN_SECONDS = 600

/**
 * `POST /api/token?document=NAME` for Vite's servers. With a secret it signs a token for this one document, as a backend does.
 * Without one it takes the token that `pinwire-node dev` gives to programs of this machine.
 */
export function tokenEndpoint({
  url = process.env.PINWIRE_URL ?? 'ws://127.0.0.1:1234',
  secret = process.env.PINWIRE_SECRET,
  claims = {},
} = {}) {
  const answer = async document => {
    if (secret === undefined) return accessOfDev(url)
    return { url, token: sign({ tenantid: 'dev', appId: 'dev', documents: [document], ...claims }, secret) }
  }

  const handle = async (request, response) => {
    const send = (status, body) => {
      response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' })
      response.end(JSON.stringify(body))
    }
    if (request.method !== 'POST') return send(405, { error: 'use POST' })
    try {
      const { searchParams } = new URL(request.url, 'http://localhost')
      send(200, await answer(searchParams.get('document') ?? ''))
    } catch (error) {
      send(502, { error: error.message })
    }
  }

  const install = server => {
    server.middlewares.use('/api/token', handle)
  }
  return { name: 'token-endpoint', configureServer: install, configurePreviewServer: install }
}

async function accessOfDev(url) {
  const page = new URL('/page/node.json', url.replace(/^ws/, 'http'))
  const answer = await fetch(page).catch(() => {
    throw new Error(`nothing listens at ${page.host}: start pinwire-node dev`)
  })
  if (!answer.ok) throw new Error(`${page.host} gives no token (${answer.status}): set PINWIRE_SECRET`)
  const { token } = await answer.json()
  return { url, token }
}

const encode = value => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A JWT, HS256 (RFC 7519); docs/clients.md says what each claim does. */
function sign(claims, secret) {
  const now = Math.floor(Date.now() / 1000)
  const all = { aud: 'pinwire', scope: 'pinwire', iat: now, exp: now + TOKEN_SECONDS, ...claims }
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(all)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}
