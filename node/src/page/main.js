// The page: presence of one document, and what an app needs to connect to the node.

import { Awareness } from './awareness.js'
import { Connection } from './connection.js'
import { MESSAGE_MAX, NAME_MAX, clip, colourOf, freeColour, personOf, randomName } from './people.js'
import { Stage } from './stage.js'
import { awarenessMessage } from './wire.js'

const DEFAULT_DOCUMENT = 'welcome'
/** Between two messages of a moving pointer. */
const SEND_EVERY_MS = 40
const LOOK_AROUND_EVERY_MS = 3_000
const WAIT_SHOWN_EVERY_MS = 200
/** A message that did not change for this long is read out. */
const MESSAGE_SETTLES_MS = 1_000
const PEOPLE_SHOWN_MAX = 50
const TRACE_POINTS = 30

const PHASES = { connecting: 'Connecting', open: 'Connected', waiting: 'Not connected', refused: 'Refused', left: 'Left' }

const at = id => document.getElementById(id)
const now = () => performance.now()

const awareness = new Awareness()
const stage = new Stage(at('stage'))
const documentName = nameInAddress() || DEFAULT_DOCUMENT
const connection = new Connection(documentName, askAccess)

function nameInAddress() {
  const fragment = location.hash.slice(1)
  try {
    return decodeURIComponent(fragment)
  } catch {
    return fragment
  }
}

/** What an app needs to connect, fresh for each dial: a node that was started anew has another secret. */
async function askAccess(signal) {
  const answer = await fetch('page/node.json', { signal })
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`)
  const access = await answer.json()
  showAccess(access)
  return access
}

// --- what this client says

let sendTimer = null
let sentAt = -Infinity

/** Says the local state, now or as soon as the pace allows. */
function say() {
  if (sendTimer !== null || connection.state.phase !== 'open') return
  const pause = Math.max(0, sentAt + SEND_EVERY_MS - now())
  sendTimer = setTimeout(() => {
    sendTimer = null
    sentAt = now()
    connection.send(awarenessMessage(awareness.say(now())))
  }, pause)
}

function become(change) {
  awareness.local = { ...awareness.local, ...change }
  say()
}

function introduce(change) {
  become({ user: { ...awareness.local.user, ...change } })
  showPeople()
}

/** Of two people with one colour the one with the higher id takes another. */
function avoidClash(others) {
  const { color } = awareness.local.user
  const clash = others.some(({ id, colour }) => colour === color && id < awareness.id)
  if (clash) introduce({ color: freeColour(others) })
}

// --- what is shown

function showState() {
  const { phase, why } = connection.state
  at('state-box').dataset.phase = phase
  at('state').textContent = why === undefined ? PHASES[phase] : `${PHASES[phase]}: ${why}`
  at('retry').hidden = phase !== 'waiting' && phase !== 'refused'
  showWait()
  if (phase === 'open') {
    say()
  } else {
    awareness.forgetOthers()
    at('round-trip').textContent = '–'
  }
  showPeople()
}

function showWait() {
  const { phase, until } = connection.state
  const seconds = Math.max(0, (until ?? 0) - now()) / 1000
  at('wait').textContent = phase === 'waiting' ? `Next attempt in ${seconds.toFixed(1)} s` : ''
}

const trace = []

function showRoundTrip(ms) {
  at('round-trip').textContent = `${ms.toFixed(ms < 10 ? 1 : 0)} ms`
  trace.push(ms)
  if (trace.length > TRACE_POINTS) trace.shift()
  const most = Math.max(...trace)
  const points = trace.map((value, index) => `${(index * 60) / (TRACE_POINTS - 1)},${(17 - (value / most) * 15).toFixed(1)}`)
  document.querySelector('#trace polyline').setAttribute('points', points.join(' '))
}

/** By client id: what was last told of each in the log. */
const told = new Map()

function showPeople() {
  const others = awareness.others().map(([id, state]) => personOf(id, state))
  const me = personOf(awareness.id, awareness.local)
  const isOpen = connection.state.phase === 'open'
  at('count').textContent = isOpen ? String(others.length + 1) : '–'
  at('alone').hidden = others.length > 0 || !isOpen
  stage.show(others.slice(0, PEOPLE_SHOWN_MAX))
  const shown = [me, ...others].slice(0, PEOPLE_SHOWN_MAX)
  at('people').replaceChildren(...shown.map(person => listItem(person, person.id === awareness.id)))
  const hidden = others.length + 1 - shown.length
  at('more').hidden = hidden === 0
  at('more').textContent = `and ${hidden} more`
  tell(others)
}

function listItem({ name, colour, message }, isMe) {
  const item = document.createElement('li')
  item.style.setProperty('--colour', colour)
  const who = document.createElement('bdi')
  who.className = 'who'
  who.textContent = name
  item.append(who)
  if (isMe) item.append(' (you)')
  if (message !== '') {
    const words = document.createElement('bdi')
    words.className = 'words'
    words.textContent = message
    item.append(words)
  }
  return item
}

/** Reads out who came, went or said something. */
function tell(others) {
  const here = new Set(others.map(({ id }) => id))
  for (const [id, { name, timer }] of told) {
    if (here.has(id)) continue
    clearTimeout(timer)
    told.delete(id)
    log(`${name} left`)
  }
  for (const { id, name, message } of others) {
    const before = told.get(id)
    if (before === undefined) log(`${name} is here`)
    if (before?.name === name && before.message === message) continue
    clearTimeout(before?.timer)
    const isNews = message !== '' && message !== before?.message
    const timer = isNews ? setTimeout(() => log(`${name} says: ${message}`), MESSAGE_SETTLES_MS) : null
    told.set(id, { name, message, timer })
  }
}

const LOG_LINES = 5

function log(line) {
  const entry = document.createElement('span')
  entry.textContent = `${line}. `
  at('log').append(entry)
  while (at('log').childElementCount > LOG_LINES) at('log').firstChild.remove()
}

// --- what an app needs

let access = null

function showAccess(given) {
  access = given
  at('url').value = given.url
  at('token').value = given.token
  at('region').textContent = given.region
  showCode()
}

function showCode() {
  if (access === null) return
  const client = document.querySelector('input[name=client]:checked').value
  at('code').textContent = CODE[client](access)
}

const quoted = text => `'${text.replace(/[\\']/g, '\\$&')}'`

const CODE = {
  'y-websocket': ({ url, token }) => `import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'

const doc = new Y.Doc()
const provider = new WebsocketProvider(${quoted(url)}, ${quoted(documentName)}, doc, {
  params: { token: ${quoted(token)} },
})
provider.awareness.setLocalStateField('user', { name: 'Ann' })
`,
  Hocuspocus: ({ url, token }) => `import * as Y from 'yjs'
import { HocuspocusProvider } from '@hocuspocus/provider'

const document = new Y.Doc()
const provider = new HocuspocusProvider({
  url: ${quoted(url)},
  name: ${quoted(documentName)},
  document,
  token: ${quoted(token)},
})
provider.setAwarenessField('user', { name: 'Ann' })
`,
}

async function copy(id) {
  const source = at(id)
  const text = source.value ?? source.textContent
  try {
    await navigator.clipboard.writeText(text)
    at('copied').textContent = 'Copied.'
  } catch {
    // Without the clipboard it is selected, for the keyboard.
    if (source.select === undefined) getSelection().selectAllChildren(source)
    else source.select()
    at('copied').textContent = 'Selected: copy it with the keyboard.'
    return
  }
  const button = document.querySelector(`[data-copies=${id}]`)
  button.classList.add('done')
  button.addEventListener('pointerleave', () => button.classList.remove('done'), { once: true })
  button.addEventListener('blur', () => button.classList.remove('done'), { once: true })
}

// --- events

connection.addEventListener('state', showState)
connection.addEventListener('roundTrip', ({ detail }) => showRoundTrip(detail))
connection.addEventListener('message', ({ detail: message }) => {
  if (message.type === 'queryAwareness') say()
  if (message.type !== 'awareness') return
  let heard
  try {
    heard = awareness.hear(message.body, now())
  } catch {
    return
  }
  if (heard.contradict) say()
  if (heard.changed) {
    avoidClash(awareness.others().map(([id, state]) => personOf(id, state)))
    showPeople()
  }
})

stage.addEventListener('pointer', ({ detail: pointer }) => become({ pointer }))
stage.addEventListener('pulse', () => {
  stage.echo(awareness.local.user.color)
  become({ pulse: (awareness.local.pulse ?? 0) + 1 })
})
at('name').addEventListener('input', ({ target }) => {
  const name = clip(target.value, NAME_MAX)
  sessionStorage.setItem('name', name)
  introduce({ name })
})
at('message').addEventListener('input', ({ target }) => {
  become({ message: clip(target.value, MESSAGE_MAX) })
  showPeople()
})
at('you').addEventListener('submit', event => event.preventDefault())
at('retry').addEventListener('click', () => connection.retry())
for (const radio of document.querySelectorAll('input[name=client]')) radio.addEventListener('change', showCode)
for (const button of document.querySelectorAll('[data-copies]')) {
  button.addEventListener('click', () => copy(button.dataset.copies))
}

setInterval(showWait, WAIT_SHOWN_EVERY_MS)
setInterval(lookAround, LOOK_AROUND_EVERY_MS)

function lookAround() {
  if (awareness.needsRenewal(now())) say()
  if (awareness.expire(now())) showPeople()
}

// A hidden page's timers are slow, and a page in the back-forward cache is not there at all.
addEventListener('visibilitychange', lookAround)
addEventListener('pagehide', () => connection.leave())
addEventListener('pageshow', ({ persisted }) => persisted && connection.retry())
addEventListener('online', () => connection.state.phase === 'waiting' && connection.retry())
addEventListener('hashchange', () => location.reload())

at('document').textContent = documentName
at('second').href = location.href
at('name').value = sessionStorage.getItem('name') || randomName()
introduce({ name: at('name').value, color: colourOf(awareness.id) })
connection.retry()
