// An unmodified y-websocket client in a browser; the test opens documents with it.

import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'

window.openDocument = async document => {
  const answer = await fetch(`/api/token?document=${document}`, { method: 'POST' })
  const { url, token } = await answer.json()
  const doc = new Y.Doc()
  // disableBc: two tabs of one browser would talk past the server.
  const provider = new WebsocketProvider(url, document, doc, { params: { token }, disableBc: true })
  await new Promise(resolve => provider.once('sync', resolve))
  return doc.getText('text')
}
