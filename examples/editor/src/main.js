// One text in the document named in the address (`/#my-notes`), written by everybody who opens it.

import { HocuspocusProvider } from '@hocuspocus/provider'
import { EditorView, basicSetup } from 'codemirror'
import { keymap } from '@codemirror/view'
import * as Y from 'yjs'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import { fetchAccess } from './access.js'
import { watchPeople } from './people.js'
import { watchState } from './state.js'
import './style.css'

const ASK_AGAIN_MS = 2000

const at = id => document.getElementById(id)
const name = location.hash.slice(1) || 'my-document'
addEventListener('hashchange', () => location.reload())
at('document').textContent = name

function showState(state, text) {
  at('state').dataset.state = state
  at('state').textContent = text
}

/** The first access, however long it takes to get one. */
async function firstAccess() {
  for (;;) {
    try {
      return await fetchAccess(name)
    } catch (error) {
      showState('refused', `No token: ${error.message}`)
      await new Promise(resolve => setTimeout(resolve, ASK_AGAIN_MS))
    }
  }
}

const doc = new Y.Doc()
const text = doc.getText('text')
const { url } = await firstAccess()

const provider = new HocuspocusProvider({
  url,
  name,
  document: doc,
  // Asked at each connect, so a token may be short-lived.
  token: async () => (await fetchAccess(name)).token,
})

watchState(provider, showState)
watchPeople(provider.awareness, at('name'), at('people'))

const undoManager = new Y.UndoManager(text)
new EditorView({
  doc: text.toString(),
  parent: at('editor'),
  extensions: [
    keymap.of(yUndoManagerKeymap),
    basicSetup,
    EditorView.lineWrapping,
    EditorView.theme({}, { dark: matchMedia('(prefers-color-scheme: dark)').matches }),
    EditorView.contentAttributes.of({ 'aria-label': `Text of ${name}` }),
    yCollab(text, provider.awareness, { undoManager }),
  ],
})

// What the node has not acknowledged lives in this tab alone.
addEventListener('beforeunload', event => {
  if (provider.hasUnsyncedChanges) event.preventDefault()
})
