// Waiting on events. A predicate is looked at again whenever one of its sources reports activity, never by the clock.

/** Long enough for a busy machine; only a failure ever takes it. */
export const PATIENCE_MS = 30_000
const ASK_EVERY_MS = 50

/**
 * Resolves with the predicate's first truthy value. `sources` are emitters of 'activity'; `what` (a string, or a function
 * called at the timeout) says what was waited for.
 */
export function until(sources, predicate, what, timeoutMs = PATIENCE_MS) {
  return new Promise((resolve, reject) => {
    let scheduled = false
    let settled = false
    const finish = (settle, value) => {
      settled = true
      clearTimeout(timer)
      for (const source of sources) source.off('activity', onActivity)
      settle(value)
    }
    const check = () => {
      scheduled = false
      if (settled) return
      try {
        const value = predicate()
        if (value) finish(resolve, value)
      } catch (error) {
        finish(reject, error)
      }
    }
    // One look per turn of the loop, however many events the turn brought.
    const onActivity = () => {
      if (scheduled) return
      scheduled = true
      setImmediate(check)
    }
    const timer = setTimeout(() => {
      const waitedFor = typeof what === 'function' ? what() : what
      finish(reject, new Error(`gave up after ${timeoutMs} ms waiting for ${waitedFor}`))
    }, timeoutMs)
    for (const source of sources) source.on('activity', onActivity)
    onActivity()
  })
}

/** Gives the event loop `turns` chances to deliver what is ready. */
export async function turns(count) {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate)
}

/** A measuring window: for tests whose subject is what happens, or does not happen, within a span of time. */
export function observe(windowMs) {
  return new Promise(resolve => setTimeout(resolve, windowMs))
}

/** Waits until `ask` gives a truthy value: for what others know and tell nobody. Each question waits for the answer before. */
export async function untilAnswer(ask, what, timeoutMs = PATIENCE_MS) {
  const end = performance.now() + timeoutMs
  for (;;) {
    const answer = await ask()
    if (answer) return answer
    if (performance.now() > end) throw new Error(`gave up after ${timeoutMs} ms waiting for ${what}`)
    await new Promise(resolve => setTimeout(resolve, ASK_EVERY_MS))
  }
}

/** Does `work` again and again, until the function that it gives is called. */
export function repeatedly(everyMs, work) {
  const timer = setInterval(work, everyMs)
  return () => clearInterval(timer)
}

/** Runs `work`, and fails when it takes longer than the usual patience. */
export async function withinPatience(work, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`gave up waiting for ${what}`)), PATIENCE_MS)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
