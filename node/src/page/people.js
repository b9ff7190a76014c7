// What others say of themselves, made safe to show: it is data of strangers, of any type and any length.

export const NAME_MAX = 32
export const MESSAGE_MAX = 80

/** Each dark enough for white letters (4.5:1). */
const COLOURS = ['#b42318', '#b54708', '#4d7c0f', '#047857', '#0e7490', '#1d4ed8', '#6d28d9', '#be185d']
const ADJECTIVES = ['Brisk', 'Calm', 'Clever', 'Daring', 'Gentle', 'Jolly', 'Keen', 'Lucky', 'Nimble', 'Quiet', 'Swift', 'Witty']
const ANIMALS = ['Badger', 'Crane', 'Dolphin', 'Falcon', 'Heron', 'Ibex', 'Lynx', 'Marten', 'Otter', 'Puffin', 'Stoat', 'Wren']

const pick = list => list[Math.floor(Math.random() * list.length)]

export const randomName = () => `${pick(ADJECTIVES)} ${pick(ANIMALS)}`
export const colourOf = id => COLOURS[id % COLOURS.length]
/** A colour that none of these people has, as long as there is one. */
export const freeColour = people => COLOURS.find(colour => people.every(person => person.colour !== colour)) ?? pick(COLOURS)

/** Text of a stranger on one line, cut to `max` characters as people count them; '' where it is no text. */
export function clip(text, max) {
  if (typeof text !== 'string') return ''
  // Control and format characters could hide or turn what stands around them; joiners inside emoji may stay.
  const line = text.slice(0, max * 32).replace(/[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f]+/gu, ' ')
  return Array.from(new Intl.Segmenter().segment(line.trim()), ({ segment }) => segment).slice(0, max).join('')
}

const isShare = value => typeof value === 'number' && value >= 0 && value <= 1
const point = value => (isShare(value?.x) && isShare(value?.y) ? { x: value.x, y: value.y } : null)

/**
 * A person to show, from an awareness state. `user` with `name` and `color` is what editors say too, so their users have
 * names here; `pointer`, `message` and `pulse` are this page's own.
 */
export function personOf(id, state) {
  const said = typeof state === 'object' && state !== null ? state : {}
  const wanted = said.user?.color
  const colour = typeof wanted === 'string' && /^#[0-9a-f]{6}$/i.test(wanted) ? wanted : colourOf(id)
  return {
    id,
    name: clip(said.user?.name, NAME_MAX) || 'Somebody without a name',
    colour,
    ink: isLight(colour) ? '#000000' : '#ffffff',
    pointer: point(said.pointer),
    message: clip(said.message, MESSAGE_MAX),
    pulse: Number.isSafeInteger(said.pulse) ? said.pulse : 0,
  }
}

/** Whether black letters are easier to read on it than white ones: relative luminance (WCAG 2.2) above that of the middle. */
function isLight(colour) {
  const channels = [1, 3, 5].map(at => Number.parseInt(colour.slice(at, at + 2), 16) / 255)
  const [red, green, blue] = channels.map(part => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179
}
