// The built-in page of `dev`: what two people on it see of each other, and of their connection.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { once } from 'node:events'
import { assertAccessible } from './lib/axe.js'
import { assertNoComplaints, startBrowser } from './lib/browser.js'
import { Person, freshDocument } from './lib/page.js'
import { startNode } from '../clients/lib/node.js'

const KEY_STEP = 0.04

let node
let browser
before(async () => {
  node = await startNode()
  browser = await startBrowser()
  await browser.context.grantPermissions(['clipboard-read', 'clipboard-write'])
})
after(async () => {
  await browser?.stop()
  await node?.stop()
})

/** Two people on one document. */
async function annAndBen(t, url = node.httpUrl) {
  const document = freshDocument()
  const ann = await Person.open(t, browser.context, url, document, 'Ann')
  const ben = await Person.open(t, browser.context, url, document, 'Ben')
  await Promise.all([ann.untilCount(2), ben.untilCount(2)])
  return { ann, ben, document }
}

/** A request by hand: status, headers, body. */
async function ask(path, headers = {}) {
  const asked = request(node.httpUrl + path, { headers })
  asked.end()
  const [response] = await once(asked, 'response')
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) body += chunk
  return { status: response.statusCode, headers: response.headers, body }
}

test('two tabs see the name, the pointer, the words and the pulse of each other', async t => {
  const { ann, ben } = await annAndBen(t)
  await ann.point(0.25, 0.4)
  await ben.untilSeesAt('Ann', 0.25, 0.4)
  await ben.point(0.75, 0.6)
  await ann.untilSeesAt('Ben', 0.75, 0.6)
  await ann.tab.getByLabel('Say something').fill('hello Ben')
  await ben.cursorOf('Ann').locator('.cursor-message', { hasText: 'hello Ben' }).waitFor()
  await ben.tab.getByRole('list').getByText('hello Ben').waitFor()
  const pulse = ben.untilPulse()
  await ann.tab.locator('#stage').click()
  await pulse
  assertNoComplaints(ann.tab, ben.tab)
})

test('two people are never shown in one colour', async t => {
  const document = freshDocument()
  const people = []
  for (const name of ['Ann', 'Ben', 'Cid', 'Dee']) people.push(await Person.open(t, browser.context, node.httpUrl, document, name))
  for (const person of people) {
    await person.untilCount(people.length)
    await person.tab.waitForFunction(count => {
      const colours = [...document.querySelectorAll('#people li')].map(item => item.style.getPropertyValue('--colour'))
      return new Set(colours).size === count
    }, people.length)
  }
})

test('a name is shown as the text it is, on one line, and not longer than fits', async t => {
  const { ann, ben } = await annAndBen(t)
  const names = {
    '<script>alert(1)</script>': '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>': '<img src=x onerror=alert(1)>',
    'Ζωή 👩‍👩‍👧 née Çelik 編集': 'Ζωή 👩‍👩‍👧 née Çelik 編集',
    '\u202eevil\u202c': 'evil',
    ['x'.repeat(64)]: 'x'.repeat(32),
    '   ': 'Somebody without a name',
  }
  await ann.point(0.5, 0.5)
  for (const [typed, shown] of Object.entries(names)) {
    await ann.tab.getByLabel('Name', { exact: true }).fill(typed)
    await ben.untilSeesAt(shown, 0.5, 0.5)
    const listed = await ben.tab.locator('#people li .who').allTextContents()
    assert.ok(listed.includes(shown), `${listed} has ${shown}`)
  }
  assert.equal(await ben.tab.locator('main script, main img').count(), 0)
  assertNoComplaints(ann.tab, ben.tab)
})

test('awareness states of any shape are survived, and shown where they can be', async t => {
  const { ann, document } = await annAndBen(t)
  const states = [
    null,
    7,
    'text',
    [],
    { user: null, pointer: null },
    { user: { name: { toString: 1 }, color: ['#ffffff'] }, pointer: { x: '0.5', y: {} } },
    { user: { name: 'Colourful', color: 'red;background:url(//elsewhere.example/)' }, pointer: { x: 0.5, y: 0.5 } },
    { user: { name: 'Far away', color: '#ffffff' }, pointer: { x: -4, y: 1e300 }, message: 5, pulse: 'x' },
    { user: { name: 'Last', color: '#ffff00' }, pointer: { x: 0, y: 1 } },
  ]
  await ann.tab.evaluate(
    async ([states, url, token, document]) => {
      const { Writer, awarenessMessage } = await import('/page/wire.js')
      const socket = new WebSocket(`${url}/${document}`, ['access_token', token])
      await new Promise(resolve => (socket.onopen = resolve))
      states.forEach((state, index) => {
        const body = new Writer().varUint(1).varUint(1000 + index).varUint(1).varString(JSON.stringify(state)).finish()
        socket.send(awarenessMessage(body))
      })
    },
    [states, node.url, node.token, document],
  )
  await ann.untilSeesAt('Last', 0, 1)
  await ann.untilSeesAt('Colourful', 0.5, 0.5)
  // Ann, Ben and all but the one that is null.
  await ann.untilCount(2 + states.length - 1)
  assert.equal(await ann.cursorOf('Far away').count(), 0)
  const colours = await ann.tab.locator('#people li').evaluateAll(items => items.map(item => item.style.getPropertyValue('--colour')))
  assert.ok(colours.every(colour => /^#[0-9a-f]{6}$/i.test(colour)), colours.join())
  assertNoComplaints(ann.tab)
})

test('somebody who closes the tab is gone from the other', async t => {
  const { ann, ben } = await annAndBen(t)
  await ben.point(0.5, 0.5)
  await ann.untilSeesAt('Ben', 0.5, 0.5)
  await ben.tab.close()
  await ann.untilCount(1)
  await ann.cursorOf('Ben').waitFor({ state: 'detached' })
  await ann.tab.getByText('You are alone here.').waitFor()
  await ann.tab.getByRole('log').getByText('Ben left').waitFor()
})

test('a killed node is told with the wait, and both are back when it is', async t => {
  let mortal = await startNode()
  t.after(() => mortal.stop())
  const { ann, ben } = await annAndBen(t, mortal.httpUrl)
  const token = ann.tab.locator('#token')
  assert.equal(await token.inputValue(), mortal.token)
  await mortal.kill()
  for (const person of [ann, ben]) {
    await person.tab.getByRole('status').getByText(/^Not connected: ./).waitFor()
    await person.tab.getByText(/Next attempt in \d+\.\d s/).waitFor()
    assert.equal(await person.tab.locator('#count').textContent(), '–')
  }
  mortal = await startNode({ listen: new URL(mortal.httpUrl).host })
  for (const person of [ann, ben]) await person.untilPhase('open')
  await Promise.all([ann.untilCount(2), ben.untilCount(2)])
  await ann.point(0.1, 0.9)
  await ben.untilSeesAt('Ann', 0.1, 0.9)
  // The node that was started anew has another secret.
  assert.equal(await token.inputValue(), mortal.token)
})

test('a refused token and a refused name are shown with the reason, and dialling stops until it is asked for', async t => {
  const ann = await Person.open(t, browser.context, node.httpUrl, 'no*name')
  await ann.untilPhase('refused')
  assert.equal(await ann.state(), 'Refused: invalid document name')

  const ben = await Person.open(t, browser.context, node.httpUrl, freshDocument())
  await ben.untilPhase('open')
  const expired = node.tokens.sign({ exp: 1_000_000_000 })
  await ben.tab.route('**/page/node.json', async route => {
    const response = await route.fetch()
    await route.fulfill({ response, json: { ...(await response.json()), token: expired } })
  })
  await ben.tab.reload()
  await ben.untilPhase('refused')
  assert.match(await ben.state(), /^Refused: .*expired/)
  await ben.tab.unroute('**/page/node.json')
  await ben.tab.getByRole('button', { name: 'Connect now' }).click()
  await ben.untilPhase('open')
  await ben.tab.getByRole('button', { name: 'Connect now' }).waitFor({ state: 'hidden' })
})

test('a node without room says how long to wait, and is dialled again then', async t => {
  const ann = await Person.open(t, browser.context, node.httpUrl, freshDocument())
  await ann.untilPhase('open')
  const waitMs = 1_500
  const dials = []
  await ann.tab.routeWebSocket(/refuse=close/, socket => {
    dials.push(performance.now())
    if (dials.length > 1) socket.connectToServer()
    else socket.close({ code: 1013, reason: `retry_ms=${waitMs}` })
  })
  await ann.tab.reload()
  await ann.tab.getByText('Not connected: The node has no room now.').waitFor()
  await ann.tab.getByText(/Next attempt in [01]\.\d s/).waitFor()
  await ann.untilPhase('open')
  assert.equal(dials.length, 2)
  // Longer than it would wait by itself after a first failure.
  assert.ok(dials[1] - dials[0] >= waitMs, 'not before it was asked to')
})

test('the page tells round trip, people, region, and what an app needs, ready to copy', async t => {
  const document = freshDocument()
  const ann = await Person.open(t, browser.context, node.httpUrl, document)
  await ann.tab.locator('#round-trip', { hasText: /^\d+(\.\d)? ms$/ }).waitFor()
  await ann.untilCount(1)
  assert.equal(await ann.tab.locator('#region').textContent(), node.region)
  const copied = async what => {
    await ann.tab.getByRole('button', { name: `Copy the ${what}` }).click()
    await ann.tab.getByText('Copied.').waitFor()
    return ann.tab.evaluate(() => navigator.clipboard.readText())
  }
  assert.equal(await copied('URL'), node.url)
  assert.equal(await copied('token'), node.token)
  const code = await copied('code')
  for (const part of [`WebsocketProvider('${node.url}', '${document}'`, node.token]) assert.ok(code.includes(part), part)
  await ann.tab.getByLabel('Hocuspocus').check()
  assert.ok((await copied('code')).includes('new HocuspocusProvider({'))
})

test('the page works by keyboard alone', async t => {
  const { ann, ben } = await annAndBen(t)
  await ann.tab.getByLabel('Name', { exact: true }).focus()
  await ann.tab.keyboard.press('Shift+Tab')
  assert.equal(await ann.tab.evaluate(() => document.activeElement.id), 'stage')
  await ann.tab.keyboard.press('ArrowRight')
  await ben.untilSeesAt('Ann', 0.5 + KEY_STEP, 0.5)
  await ann.tab.keyboard.press('ArrowUp')
  await ben.untilSeesAt('Ann', 0.5 + KEY_STEP, 0.5 - KEY_STEP)
  const pulse = ben.untilPulse()
  await ann.tab.keyboard.press('Enter')
  await pulse
  await ann.tab.keyboard.press('Tab')
  await ben.cursorOf('Ann').waitFor({ state: 'detached' })
})

test('the page is accessible, light and dark, alone and with others, connected and not', async t => {
  const { ann, ben } = await annAndBen(t)
  for (const name of ['Shared space', 'You', 'People', 'Connect your app']) {
    await ann.tab.getByRole('region', { name, exact: true }).waitFor()
  }
  await ann.tab.getByRole('application', { name: 'Shared space' }).waitFor()
  await ann.tab.getByRole('status').getByText('Connected').waitFor()
  await ben.tab.getByRole('log', { name: 'Who came and went' }).getByText('Ann is here').waitFor({ state: 'attached' })
  await ben.point(0.5, 0.5)
  await ann.untilSeesAt('Ben', 0.5, 0.5)
  for (const colorScheme of ['light', 'dark']) {
    await ann.tab.emulateMedia({ colorScheme })
    await assertAccessible(ann.tab, colorScheme)
  }
  await ben.tab.close()
  await ann.tab.getByText('You are alone here.').waitFor()
  await assertAccessible(ann.tab, 'alone')
  const refused = await Person.open(t, browser.context, node.httpUrl, 'no*name')
  await refused.untilPhase('refused')
  await assertAccessible(refused.tab, 'refused')
})

test('nothing moves by itself for people who asked for that', async t => {
  const { ann, ben } = await annAndBen(t)
  await ben.tab.emulateMedia({ reducedMotion: 'reduce' })
  await ann.point(0.5, 0.5)
  await ben.untilSeesAt('Ann', 0.5, 0.5)
  assert.equal(await ben.cursorOf('Ann').evaluate(cursor => getComputedStyle(cursor).transitionProperty), 'none')
})

test('the page fits a phone', async t => {
  const ann = await Person.open(t, browser.context, node.httpUrl, freshDocument(), 'x'.repeat(32))
  await ann.tab.setViewportSize({ width: 360, height: 740 })
  await ann.untilPhase('open')
  const { wide, width } = await ann.tab.evaluate(() => ({ wide: document.documentElement.scrollWidth, width: innerWidth }))
  assert.ok(wide <= width, `${wide} wide`)
  await ann.tab.getByText('Point, tap or use the arrow keys').waitFor()
})

test('the page asks nobody but its node, and its policy allows nothing else', async t => {
  const hosts = new Set()
  const note = asked => hosts.add(new URL(asked.url()).host)
  browser.context.on('request', note)
  t.after(() => browser.context.off('request', note))
  const ann = await Person.open(t, browser.context, node.httpUrl, freshDocument())
  await ann.untilPhase('open')
  assert.deepEqual([...hosts], [new URL(node.httpUrl).host])
  const { headers } = await ask('/', { Accept: 'text/html' })
  const policy = headers['content-security-policy']
  for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]) {
    assert.ok(policy.includes(part), part)
  }
  assert.ok(!policy.includes('unsafe'), policy)
  assertNoComplaints(ann.tab)
})

test('whoever does not ask for HTML gets the health of the node at /', async () => {
  for (const accept of [undefined, '*/*', 'application/json']) {
    const { status, body, headers } = await ask('/', accept === undefined ? {} : { Accept: accept })
    assert.equal(status, 200)
    assert.equal(JSON.parse(body).status, 'healthy')
    assert.equal(headers.vary, 'Accept')
  }
  const { headers, body } = await ask('/', { Accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8' })
  assert.match(headers['content-type'], /^text\/html/)
  assert.ok(body.startsWith('<!doctype html>') && !body.includes(node.token))
})

test('what the page loads is typed, not kept, and nothing beside it is there', async () => {
  for (const name of ['main.js', 'style.css', 'icon.svg']) {
    const { status, headers } = await ask(`/page/${name}`)
    assert.equal(status, 200, name)
    assert.equal(headers['x-content-type-options'], 'nosniff')
    assert.equal(headers['cache-control'], 'no-store')
  }
  for (const path of ['/page/', '/page/index.html', '/page/..%2fCargo.toml', '/page/main.js/x']) {
    assert.equal((await ask(path)).status, 404, path)
  }
})

test('the token is given under names of this machine only, and to no page of another origin', async () => {
  const { host, port } = new URL(node.httpUrl)
  for (const own of [host, `localhost:${port}`, `[::1]:${port}`]) {
    const { status, body } = await ask('/page/node.json', { Host: own })
    assert.equal(status, 200, own)
    assert.deepEqual([JSON.parse(body).token, JSON.parse(body).url], [node.token, `ws://${own}`])
  }
  const foreign = ['evil.example', `evil.example:${port}`, `127.0.0.1.evil.example:${port}`, `localhost.evil.example:${port}`, '192.0.2.1']
  for (const Host of [...foreign, `localhost@evil.example:${port}`, 'localhost:']) {
    for (const path of ['/page/node.json', '/page/main.js', '/']) {
      const { status, body } = await ask(path, { Host, Accept: 'text/html' })
      assert.equal(status, 421, `${Host} ${path}`)
      assert.ok(!body.includes(node.token))
    }
  }
  for (const headers of [
    { 'Sec-Fetch-Site': 'cross-site' },
    { 'Sec-Fetch-Site': 'same-site' },
    { Origin: 'http://evil.example' },
    { Origin: `http://localhost:${port}` },
    { Origin: 'null' },
  ]) {
    const { status, body, headers: answered } = await ask('/page/node.json', headers)
    assert.equal(status, 403, JSON.stringify(headers))
    assert.ok(!body.includes(node.token))
    assert.equal(answered['access-control-allow-origin'], undefined)
  }
  assert.equal((await ask('/page/node.json')).headers['access-control-allow-origin'], undefined)
})
