// The example editor as its README runs it: writers see each other, know whether their text is safe, and lose nothing.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { assertAccessible } from './lib/axe.js'
import { assertNoComplaints, openTab, startBrowser } from './lib/browser.js'
import { EDITOR, Writer, buildSite, developEditor, serveSite } from './lib/editor.js'
import { Person, freshDocument } from './lib/page.js'
import { startNetwork } from './lib/server.js'
import { startNode } from '../clients/lib/node.js'

let node
let browser
let built
let site
before(async () => {
  node = await startNode()
  built = await buildSite(EDITOR)
  site = await serveSite(built, node)
  browser = await startBrowser()
})
after(async () => {
  await browser?.stop()
  await site?.stop()
  built?.remove()
  await node?.stop()
})

async function openEditor(t, url, document, name) {
  const writer = new Writer(await openTab(t, browser.context))
  await writer.open(url, document, name)
  return writer
}

test('npm run dev against a dev node: two tabs write together, without any configuration', async t => {
  const developed = await developEditor(node)
  t.after(() => developed.stop())
  const document = freshDocument()
  const ann = await openEditor(t, developed.url, document, 'Ann')
  const ben = await openEditor(t, developed.url, document, 'Ben')
  await ann.type('hello from ann')
  await ben.untilHas('hello from ann')
  await ben.untilCursorOf('Ann')
  await ann.untilState('saved')
  assertNoComplaints(ann.tab, ben.tab)
})

test('two who type at the same time end with the same text, and see the cursor and name of each other', async t => {
  const document = freshDocument()
  const ann = await openEditor(t, site.url, document, 'Ann')
  const ben = await openEditor(t, site.url, document, 'Ben Ω <b>')
  await Promise.all([ann.untilState('saved'), ben.untilState('saved')])
  const words = (who, count) => Array.from({ length: count }, (_, index) => `${who}${index} `).join('')
  await Promise.all([ann.type(words('a', 30)), ben.type(words('b', 30))])
  // In which order is open: nothing is lost, and both have the same.
  const keys = text => [...text.replaceAll('\n', '')].sort().join('')
  await ann.type('§')
  await ben.untilHas('§')
  await ben.type('¶')
  const [one, other] = await Promise.all([ann.untilHas('§', '¶'), ben.untilHas('§', '¶')])
  assert.equal(one, other)
  assert.equal(keys(one), keys(`${words('a', 30)}${words('b', 30)}§¶`))
  await ann.untilCursorOf('Ben Ω <b>')
  await ben.untilCursorOf('Ann')
  await ann.tab.getByRole('list', { name: 'People here' }).getByText('Ben Ω <b>').waitFor()
  await Promise.all([ann.untilState('saved'), ben.untilState('saved')])
  assertNoComplaints(ann.tab, ben.tab)
})

test('who is offline is told, goes on writing, and loses nothing', async t => {
  const network = await startNetwork(new URL(node.url).port)
  t.after(() => network.stop())
  const far = await serveSite(built, { url: `ws://127.0.0.1:${network.port}`, secret: node.secret })
  t.after(() => far.stop())
  const document = freshDocument()
  const ann = await openEditor(t, far.url, document, 'Ann')
  const ben = await openEditor(t, site.url, document, 'Ben')
  await ann.type('before. ')
  await ben.untilHas('before.')
  network.cut()
  await ann.untilState('offline')
  await ann.type('ann offline. ')
  await ann.tab.getByRole('status').getByText('Offline: not saved yet').waitFor()
  await ben.type('ben online. ')
  await ben.untilState('saved')
  assert.ok(!(await ben.untilHas('before.')).includes('ann offline'))
  network.mend()
  await ann.untilState('saved')
  const [one, other] = await Promise.all([ann, ben].map(writer => writer.untilHas('ann offline.', 'ben online.')))
  assert.equal(one, other)
})

test('a killed node is told, and when it is back everything is saved on the new one', async t => {
  let mortal = await startNode()
  t.after(() => mortal.stop())
  // Without a secret the backend asks the node itself, also the one that is started anew with another secret.
  const local = await serveSite(built, { url: mortal.url, secret: undefined })
  t.after(() => local.stop())
  const document = freshDocument()
  const ann = await openEditor(t, local.url, document, 'Ann')
  const ben = await openEditor(t, local.url, document, 'Ben')
  await ann.type('kept by the tabs')
  await ben.untilHas('kept by the tabs')
  await mortal.kill()
  await Promise.all([ann.untilState('offline'), ben.untilState('offline')])
  mortal = await startNode({ listen: new URL(mortal.httpUrl).host })
  await Promise.all([ann.untilState('saved'), ben.untilState('saved')])
  const cid = await openEditor(t, local.url, document, 'Cid')
  await cid.untilHas('kept by the tabs')
})

test('a token that the node refuses is told with its reason', async t => {
  const wrong = await serveSite(built, { url: node.url, secret: 'another secret entirely' })
  t.after(() => wrong.stop())
  const ann = await openEditor(t, wrong.url, freshDocument(), 'Ann')
  await ann.untilState('refused')
  assert.match(await ann.tab.getByRole('status').textContent(), /^Refused: .+/)

  const nowhere = await serveSite(built, { url: 'ws://127.0.0.1:9', secret: undefined })
  t.after(() => nowhere.stop())
  const tab = await openTab(t, browser.context)
  await tab.goto(nowhere.url)
  await tab.getByRole('status').getByText('No token: nothing listens at 127.0.0.1:9: start pinwire-node dev').waitFor()
})

test('a writer of the editor is a person on the built-in page', async t => {
  const document = freshDocument()
  const person = await Person.open(t, browser.context, node.httpUrl, document, 'Watcher')
  const ann = await openEditor(t, site.url, document, 'Ann the writer')
  await person.tab.getByRole('list').getByText('Ann the writer').waitFor()
  await ann.tab.getByRole('list', { name: 'People here' }).getByText('Watcher').waitFor()
  await ann.type('a text that the page has no use for')
  await ann.untilState('saved')
  await person.untilCount(2)
  assertNoComplaints(person.tab, ann.tab)
})

test('the editor is accessible', async t => {
  const ann = await openEditor(t, site.url, freshDocument(), 'Ann')
  await ann.untilState('saved')
  await ann.tab.getByRole('textbox', { name: /^Text of / }).waitFor()
  for (const colorScheme of ['light', 'dark']) {
    await ann.tab.emulateMedia({ colorScheme })
    await assertAccessible(ann.tab, colorScheme)
  }
})
