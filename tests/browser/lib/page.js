// The built-in page, and what a person sees and does on it.

import { openTab } from './browser.js'

let documents = 0
/** A document no other test uses. */
export const freshDocument = () => `doc-${process.pid}-${++documents}`

export class Person {
  constructor(tab) {
    this.tab = tab
  }

  /** Opens the page of the node at `url` in a tab of its own. */
  static async open(t, context, url, document, name) {
    const person = new Person(await openTab(t, context))
    await person.tab.goto(`${url}/#${document}`)
    if (name !== undefined) await person.tab.getByLabel('Name', { exact: true }).fill(name)
    return person
  }

  untilPhase(phase) {
    return this.tab.locator(`#state-box[data-phase=${phase}]`).waitFor()
  }

  state() {
    return this.tab.locator('#state').textContent()
  }

  untilCount(count) {
    return this.tab.locator('#count', { hasText: new RegExp(`^${count}$`) }).waitFor()
  }

  /** Moves the pointer to shares of the shared space. */
  async point(x, y) {
    const box = await this.tab.locator('#stage').boundingBox()
    await this.tab.mouse.move(box.x + x * box.width, box.y + y * box.height)
  }

  /** Resolves when somebody else's pulse is shown; it is gone when its animation is over. */
  untilPulse() {
    return this.tab.evaluate(
      () =>
        new Promise(resolve => {
          const isPulse = node => node.className === 'pulse'
          const look = changes => changes.some(({ addedNodes }) => [...addedNodes].some(isPulse)) && resolve()
          new MutationObserver(look).observe(document.getElementById('stage'), { childList: true })
        }),
    )
  }

  cursorOf(name) {
    return this.tab.locator('.cursor').filter({ has: this.tab.locator('.cursor-name', { hasText: name }) })
  }

  /** Waits until the cursor of `name` is where its owner points, within a hundredth. */
  untilSeesAt(name, x, y) {
    return this.tab.waitForFunction(
      ([name, x, y]) => {
        const cursor = [...document.querySelectorAll('.cursor')].find(it => it.querySelector('.cursor-name').textContent === name)
        const share = text => Number.parseFloat(text) / 100
        return cursor && Math.abs(share(cursor.style.left) - x) < 0.01 && Math.abs(share(cursor.style.top) - y) < 0.01
      },
      [name, x, y],
    )
  }
}
