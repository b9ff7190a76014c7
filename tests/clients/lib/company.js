// Several clients on one document: what they see of each other.

import { KINDS, isHocuspocus } from './client.js'
import { until } from './wait.js'

/** Whether each of `members` sees what each of `others` says of itself. */
const seeEachOther = (members, others) =>
  members.every(viewer => others.every(member => viewer.sees(member)?.user === member.awareness.getLocalState()?.user))

/** Gives each member a state, and waits until everyone sees everyone. */
export async function introduce(members) {
  for (const [at, member] of members.entries()) member.awareness.setLocalState({ user: `${member.kind} ${at}` })
  await until(members, () => seeEachOther(members, members), () => `everyone to see everyone: ${members.join('; ')}`)
}

/** Waits until none of `members` sees one of `gone` any more. */
export const untilGone = (members, gone) =>
  until(
    members,
    () => members.every(member => gone.every(other => member.sees(other) === undefined)),
    () => `${gone.map(({ kind }) => kind)} to be gone: ${members.join('; ')}`,
  )

/** One client of each kind, opened by `open(kind, at)`, synced. */
export async function oneOfEach(open) {
  const members = KINDS.map(open)
  await Promise.all(members.map(member => member.untilSynced()))
  return members
}

/** Waits until every edit is acknowledged of those members that are told. */
export const acknowledged = members =>
  Promise.all(members.filter(({ kind }) => isHocuspocus(kind)).map(member => member.untilAcknowledged()))

/** Each member writes something of its own. */
export function writeAll(members, what) {
  for (const [at, { doc }] of members.entries()) doc.getMap('map').set(`${what}-${at}`, doc.clientID)
}
