// This writer's name, and who else is here.

const COLOURS = ['#b42318', '#b54708', '#4d7c0f', '#047857', '#0e7490', '#1d4ed8', '#6d28d9', '#be185d']

/** Keeps the awareness field `user` what the input says, and the list what others say. */
export function watchPeople(awareness, input, list) {
  const color = COLOURS[awareness.clientID % COLOURS.length]
  const introduce = () => {
    const name = input.value.trim() || 'Somebody'
    sessionStorage.setItem('name', name)
    awareness.setLocalStateField('user', { name, color, colorLight: `${color}33` })
  }
  input.value = sessionStorage.getItem('name') ?? `Writer ${awareness.clientID % 1000}`
  input.addEventListener('input', introduce)
  introduce()

  awareness.on('change', () => show(awareness, list))
  show(awareness, list)
}

function show(awareness, list) {
  const entries = [...awareness.getStates()].map(([id, { user }]) => {
    const entry = document.createElement('li')
    // As text, never as HTML: it comes from somebody else.
    entry.textContent = `${String(user?.name ?? 'Somebody').slice(0, 32)}${id === awareness.clientID ? ' (you)' : ''}`
    entry.style.setProperty('--colour', String(user?.color ?? '#777777'))
    return entry
  })
  list.replaceChildren(...entries)
}
