// Clients made by the very lines of docs/clients.md.

import { readFileSync } from 'node:fs'
import assert from 'node:assert/strict'

const PAGE = readFileSync(new URL('../../../docs/clients.md', import.meta.url), 'utf8')
const AsyncFunction = (async () => {}).constructor

/** The blocks of JavaScript under a heading, in order, without their imports. */
function blocks(heading) {
  const section = PAGE.split(/^## /m).find(section => section.startsWith(`${heading}\n`))
  assert.ok(section, `docs/clients.md has no heading ${heading}`)
  return [...section.matchAll(/^```js\n(.*?)^```/gms)].map(([, code]) => code.replaceAll(/^import .*\n/gm, ''))
}

const [Y_WEBSOCKET] = blocks('y-websocket')
const [HOCUSPOCUS] = blocks('Hocuspocus')
const [FOLLOW_Y_WEBSOCKET, FOLLOW_HOCUSPOCUS, DISCOVER] = blocks('Regions')

/** Puts values in the places of the page's examples. */
function fill(code, values) {
  for (const [example, value] of Object.entries(values)) {
    assert.ok(code.includes(example), `docs/clients.md has no ${example} in\n${code}`)
    code = code.replaceAll(example, value)
  }
  return code
}

/** Makes a provider for y-websocket that follows redirects; `names` are what the imports give, and the token. */
export function followingYWebsocket(url, document, names) {
  const code = fill(Y_WEBSOCKET, { 'ws://127.0.0.1:1234': url, 'my-document': document }) + FOLLOW_Y_WEBSOCKET
  return new Function(...Object.keys(names), `${code}\nreturn provider`)(...Object.values(names))
}

/** The same for Hocuspocus. */
export function followingHocuspocus(url, document, names) {
  const code = fill(HOCUSPOCUS, { 'ws://127.0.0.1:1234': url, 'my-document': document }) + FOLLOW_HOCUSPOCUS
  return new Function(...Object.keys(names), `${code}\nreturn provider`)(...Object.values(names))
}

/** Asks a node where to open a document. */
export function discover(httpUrl, document, token) {
  const code = fill(DISCOVER, { 'http://127.0.0.1:1234': httpUrl, 'my-document': document })
  return new AsyncFunction('token', `${code}\nreturn url`)(token)
}
