// `wss://` in a browser that trusts the certificate's authority, as everybody's does a public one; nothing is ignored.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { assertNoComplaints, openTab, startBrowser } from './lib/browser.js'
import { makeCertificates } from './lib/certificates.js'
import { EDITOR, Writer, buildSite, serveSite } from './lib/editor.js'
import { freshDocument } from './lib/page.js'
import { startNode } from '../clients/lib/node.js'

const STOCK = fileURLToPath(new URL('stock', import.meta.url))

let made
let node
let browser
before(async () => {
  made = makeCertificates()
  node = await startNode({ certificates: made.certificates })
  browser = await startBrowser({ home: made.home })
})
after(async () => {
  await browser?.stop()
  await node?.stop()
  made?.remove()
})

/** Builds a site and serves it with tokens for the node, whose name in the certificate is `localhost`. */
async function serve(t, root) {
  const built = await buildSite(root)
  t.after(() => built.remove())
  const { port, protocol } = new URL(node.url)
  assert.equal(protocol, 'wss:')
  const site = await serveSite(built, { url: `wss://localhost:${port}`, secret: node.secret })
  t.after(() => site.stop())
  return site
}

test('two tabs of the editor write together in TLS', async t => {
  const site = await serve(t, EDITOR)
  const document = freshDocument()
  const [ann, ben] = [new Writer(await openTab(t, browser.context)), new Writer(await openTab(t, browser.context))]
  await ann.open(site.url, document, 'Ann')
  await ben.open(site.url, document, 'Ben')
  await ann.type('sealed words')
  await ben.untilHas('sealed words')
  await ben.untilCursorOf('Ann')
  await ann.untilState('saved')
  assertNoComplaints(ann.tab, ben.tab)
})

test('unmodified y-websocket clients in two tabs write together in TLS', async t => {
  const site = await serve(t, STOCK)
  const document = freshDocument()
  const open = async () => {
    const tab = await openTab(t, browser.context)
    await tab.goto(site.url)
    const text = await tab.evaluateHandle(name => window.openDocument(name), document)
    return { tab, text }
  }
  const [ann, ben] = [await open(), await open()]
  await Promise.all([ann.text.evaluate(text => text.insert(0, 'ann ')), ben.text.evaluate(text => text.insert(0, 'ben '))])
  for (const { tab, text } of [ann, ben]) {
    await tab.waitForFunction(text => text.toString().includes('ann ') && text.toString().includes('ben '), text)
  }
  const [one, other] = await Promise.all([ann, ben].map(({ text }) => text.evaluate(text => text.toString())))
  assert.equal(one, other)
  assertNoComplaints(ann.tab, ben.tab)
})

test('a browser that does not know the authority does not connect', async t => {
  const stranger = await startBrowser()
  t.after(() => stranger.stop())
  const close = async context => {
    const tab = await context.newPage()
    return tab.evaluate(
      ([url, token]) =>
        new Promise(resolve => {
          const socket = new WebSocket(url, ['access_token', token])
          socket.onopen = () => resolve('open')
          socket.onclose = ({ code }) => resolve(code)
        }),
      [`${node.url}/${freshDocument()}`, node.token],
    )
  }
  assert.equal(await close(browser.context), 'open')
  assert.equal(await close(stranger.context), 1006)
})

test('serve has no page: a browser gets the health of the node, and no token', async t => {
  const tab = await openTab(t, browser.context)
  const answer = await tab.goto(`${node.httpUrl}/`)
  assert.equal((await answer.json()).status, 'healthy')
  const statuses = await tab.evaluate(paths => Promise.all(paths.map(async path => (await fetch(path)).status)), [
    '/page/node.json',
    '/page/main.js',
  ])
  assert.deepEqual(statuses, [404, 404])
})
