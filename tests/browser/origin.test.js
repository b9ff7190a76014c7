// Pages of other origins: they read nothing of the built-in page, and open no document with a token that is for others.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { openTab, startBrowser } from './lib/browser.js'
import { freshDocument } from './lib/page.js'
import { startOtherSite } from './lib/server.js'
import { startNode } from '../clients/lib/node.js'

const APP = 'app.example'
/** Names that contain the allowed one, or are contained in it. */
const LOOKALIKES = ['app.example.evil.example', 'evilapp.example', 'www.app.example', 'example', 'app.example.']

let node
let site
let browser
before(async () => {
  node = await startNode()
  site = await startOtherSite()
  browser = await startBrowser({ hosts: [APP, ...LOOKALIKES, 'evil.example'] })
})
after(async () => {
  await browser?.stop()
  site?.stop()
  await node?.stop()
})

/** A page of `http://host`, at the other site's port unless given. */
async function pageOf(t, host, port = site.port) {
  const tab = await openTab(t, browser.context)
  await tab.goto(`http://${host}:${port}/`)
  return tab
}

/** Opens a document from a page or frame: `open`, or the close's code and reason. */
const dial = (frame, token, document = freshDocument()) =>
  frame.evaluate(
    ([url, token]) =>
      new Promise(resolve => {
        const socket = new WebSocket(url, ['access_token', token])
        // Sync step 1 of an empty document; the first answer means that it is open.
        socket.onopen = () => socket.send(Uint8Array.of(0, 0, 1, 0))
        socket.onmessage = () => {
          socket.close()
          resolve('open')
        }
        socket.onclose = ({ code, reason }) => resolve(`${code} ${reason}`)
      }),
    [`${node.url}/${document}`, token],
  )

test('a page of another origin reads neither the token nor the page', async t => {
  for (const host of ['localhost', 'evil.example']) {
    const tab = await pageOf(t, host)
    const read = await tab.evaluate(async base => {
      const attempt = async (path, options) => {
        try {
          const answer = await fetch(base + path, options)
          return `${answer.type}: ${await answer.text()}`
        } catch (error) {
          return error.name
        }
      }
      const frame = document.createElement('iframe')
      frame.src = `${base}/`
      const framed = new Promise(resolve => (frame.onload = () => resolve(frame.contentDocument?.title ?? 'not ours')))
      document.body.append(frame)
      const script = document.createElement('script')
      script.src = `${base}/page/node.json`
      const loaded = new Promise(resolve => {
        script.onload = () => resolve('loaded')
        script.onerror = () => resolve('blocked')
      })
      document.body.append(script)
      return {
        token: await attempt('/page/node.json'),
        opaque: await attempt('/page/node.json', { mode: 'no-cors' }),
        page: await attempt('/', { headers: { Accept: 'text/html' } }),
        framed: await framed,
        script: await loaded,
      }
    }, node.httpUrl)
    assert.deepEqual(read, {
      token: 'TypeError',
      opaque: 'TypeError',
      page: 'TypeError',
      framed: 'not ours',
      script: 'blocked',
    })
    // The frame holds the browser's own words, not the page.
    const [, frame] = tab.frames()
    assert.equal(await frame.locator('#stage').count(), 0)
  }
})

test('a name that was made to resolve to this machine gets neither the token nor the page', async t => {
  const { port } = new URL(node.httpUrl)
  const tab = await openTab(t, browser.context)
  const answer = await tab.goto(`http://evil.example:${port}/`)
  assert.equal(answer.status(), 421)
  const read = await tab.evaluate(async () => {
    const answers = await Promise.all(['/page/node.json', '/page/main.js'].map(path => fetch(path)))
    return Promise.all(answers.map(async answer => [answer.status, await answer.text()]))
  })
  for (const [status, body] of read) {
    assert.equal(status, 421)
    assert.ok(!body.includes(node.token))
  }
})

test('a token that names a domain opens documents for pages of exactly that domain', async t => {
  const anyPort = node.tokens.sign({ allowed_domain_1: APP })
  const thisPort = node.tokens.sign({ allowed_domain_1: `${APP}:${site.port}` })
  const thisOrigin = node.tokens.sign({ allowed_domain_1: `http://${APP}:${site.port}` })
  const others = {
    'another port': node.tokens.sign({ allowed_domain_1: `${APP}:${site.port + 1}` }),
    'another scheme': node.tokens.sign({ allowed_domain_1: `https://${APP}:${site.port}` }),
    'the port of the scheme': node.tokens.sign({ allowed_domain_1: `http://${APP}` }),
    'a parent domain': node.tokens.sign({ allowed_domain_1: 'example' }),
  }
  const app = await pageOf(t, APP)
  for (const token of [anyPort, thisPort, thisOrigin]) assert.equal(await dial(app, token), 'open')
  for (const [what, token] of Object.entries(others)) assert.match(await dial(app, token), /^4003 /, what)

  for (const host of [...LOOKALIKES, 'evil.example', 'localhost', '127.0.0.1']) {
    const tab = await pageOf(t, host)
    for (const token of [anyPort, thisPort, thisOrigin]) assert.match(await dial(tab, token), /^4003 /, host)
    assert.equal(await dial(tab, node.token), 'open', `${host} with a token for every page`)
  }
})

test('a page without an origin of its own opens nothing with a token that names a domain', async t => {
  const tab = await pageOf(t, APP)
  await tab.evaluate(() => {
    const frame = document.createElement('iframe')
    frame.sandbox = 'allow-scripts'
    frame.srcdoc = '<!doctype html><title>sandboxed</title>'
    document.body.append(frame)
    return new Promise(resolve => (frame.onload = resolve))
  })
  const [, frame] = tab.frames()
  assert.equal(await frame.evaluate(() => origin), 'null')
  for (const domain of [APP, 'null', '*']) {
    assert.match(await dial(frame, node.tokens.sign({ allowed_domain_1: domain })), /^400[23] /, domain)
  }
  assert.equal(await dial(frame, node.token), 'open', 'with a token for every page')
})
