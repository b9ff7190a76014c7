// Where documents are served, and a token for one of them. An app asks its own backend, which knows who is signed in.

/** Gives `{url, token}`. */
export async function fetchAccess(document) {
  const answer = await fetch(`/api/token?document=${encodeURIComponent(document)}`, { method: 'POST' })
  const body = await answer.json().catch(() => ({ error: `the backend answered ${answer.status}` }))
  if (!answer.ok) throw new Error(body.error)
  return body
}
