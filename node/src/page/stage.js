// The shared space: this page's own pointer in, everybody's pointers out. Places are shares of its width and height.

const SVG = 'http://www.w3.org/2000/svg'
const ARROW = 'M2 2 L2 19 L6.5 14.6 L9.6 21.4 L12.8 20 L9.7 13.3 L16 13.3 Z'
/** How far one press of an arrow key goes; with Shift it is less. */
const STEP = 0.04
const SMALL_STEP = 0.01
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

const within = share => Math.min(1, Math.max(0, share))
const percent = share => `${(share * 100).toFixed(3)}%`

/** Emits `pointer` with `{x, y}`, or null when it left, and `pulse`. */
export class Stage extends EventTarget {
  #element
  /** By client id. */
  #cursors = new Map()
  #own
  #place = { x: 0.5, y: 0.5 }

  constructor(element) {
    super()
    this.#element = element
    this.#own = document.createElement('div')
    this.#own.className = 'own'
    this.#own.hidden = true
    element.append(this.#own)
    element.addEventListener('pointermove', event => this.#pointed(event))
    element.addEventListener('pointerdown', event => this.#pointed(event))
    element.addEventListener('pointerleave', () => this.#gone())
    element.addEventListener('pointercancel', () => this.#gone())
    element.addEventListener('click', event => {
      if (event.target.closest('a') === null) this.pulse()
    })
    element.addEventListener('keydown', event => this.#pressed(event))
    element.addEventListener('blur', () => this.#gone())
  }

  pulse() {
    this.dispatchEvent(new Event('pulse'))
  }

  /** Shows a pulse of this page's own. */
  echo(colour) {
    this.#ripple(this.#place, colour)
  }

  /** Shows these people and nobody else. */
  show(people) {
    const pointing = people.filter(({ pointer }) => pointer !== null)
    const here = new Set(pointing.map(({ id }) => id))
    for (const [id, cursor] of this.#cursors) {
      if (here.has(id)) continue
      cursor.element.remove()
      this.#cursors.delete(id)
    }
    for (const person of pointing) this.#draw(person)
  }

  #draw(person) {
    const { id, name, colour, ink, pointer, message, pulse } = person
    let cursor = this.#cursors.get(id)
    if (cursor === undefined) {
      cursor = { ...newCursor(), pulse }
      this.#cursors.set(id, cursor)
      this.#element.append(cursor.element)
    }
    cursor.name.textContent = name
    cursor.message.textContent = message
    cursor.message.hidden = message === ''
    cursor.element.style.setProperty('--colour', colour)
    cursor.element.style.setProperty('--ink', ink)
    cursor.element.style.left = percent(pointer.x)
    cursor.element.style.top = percent(pointer.y)
    cursor.element.classList.toggle('leftward', pointer.x > 0.5)
    cursor.element.classList.toggle('upward', pointer.y > 0.85)
    if (pulse !== cursor.pulse) {
      cursor.pulse = pulse
      this.#ripple(pointer, colour)
    }
  }

  #ripple({ x, y }, colour) {
    const ring = document.createElement('span')
    ring.className = 'pulse'
    ring.style.setProperty('--colour', colour)
    ring.style.left = percent(x)
    ring.style.top = percent(y)
    ring.addEventListener('animationend', () => ring.remove())
    this.#element.append(ring)
  }

  #pointed({ clientX, clientY }) {
    const { left, top, width, height } = this.#element.getBoundingClientRect()
    this.#own.hidden = true
    this.#move(within((clientX - left) / width), within((clientY - top) / height))
  }

  #pressed(event) {
    // Keys of a link in the stage are the link's.
    if (event.target !== this.#element || event.ctrlKey || event.altKey || event.metaKey) return
    const arrow = ARROWS[event.key]
    if (arrow !== undefined) {
      const step = event.shiftKey ? SMALL_STEP : STEP
      this.#own.hidden = false
      this.#move(within(this.#place.x + arrow[0] * step), within(this.#place.y + arrow[1] * step))
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.pulse()
    } else {
      return
    }
    event.preventDefault()
  }

  #move(x, y) {
    this.#place = { x, y }
    this.#own.style.left = percent(x)
    this.#own.style.top = percent(y)
    this.dispatchEvent(new CustomEvent('pointer', { detail: this.#place }))
  }

  #gone() {
    this.#own.hidden = true
    this.dispatchEvent(new CustomEvent('pointer', { detail: null }))
  }
}

function newCursor() {
  const element = document.createElement('div')
  element.className = 'cursor'
  // The list of people says the same to those who do not see it.
  element.setAttribute('aria-hidden', 'true')
  const arrow = document.createElementNS(SVG, 'svg')
  arrow.setAttribute('viewBox', '0 0 18 24')
  const path = document.createElementNS(SVG, 'path')
  path.setAttribute('d', ARROW)
  arrow.append(path)
  const label = document.createElement('div')
  label.className = 'label'
  const name = document.createElement('bdi')
  name.className = 'cursor-name'
  const message = document.createElement('bdi')
  message.className = 'cursor-message'
  label.append(name, message)
  element.append(arrow, label)
  return { element, name, message }
}
