// What a writer wants to know: is what I wrote safe?

/**
 * Calls `show(name, text)` whenever it changes: `connecting`, `saving`, `saved` (the node has every change), `offline`
 * (changes stay in this tab until the node is back), `refused` with the node's reason.
 */
export function watchState(provider, show) {
  let status = 'connecting'
  let refusal = null

  const update = () => {
    // Right after connecting the provider counts its own question as a change; before that, each edit.
    const waiting = provider.unsyncedChanges
    if (refusal !== null) show('refused', `Refused: ${refusal}`)
    else if (status === 'disconnected') show('offline', waiting > 0 ? 'Offline: not saved yet' : 'Offline')
    else if (!provider.synced) show('connecting', 'Connecting')
    else if (waiting > 0) show('saving', 'Saving')
    else show('saved', 'Saved')
  }

  provider.on('status', event => {
    // While it dials again it says `connecting`; for the writer that is still offline.
    if (event.status !== 'connecting' || status !== 'disconnected') status = event.status
    if (event.status === 'disconnected') refusal = null
    update()
  })
  provider.on('authenticationFailed', ({ reason }) => {
    refusal = reason
    update()
  })
  provider.on('authenticated', () => {
    refusal = null
    update()
  })
  provider.on('synced', update)
  provider.on('unsyncedChanges', update)
  update()
}
