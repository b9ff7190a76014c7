// Minting tokens (HS256), whole and broken.

import { createHmac, randomUUID } from 'node:crypto'

const encode = value => Buffer.from(JSON.stringify(value)).toString('base64url')
const decode = part => JSON.parse(Buffer.from(part, 'base64url').toString())

export const readToken = token => {
  const [header, claims] = token.split('.')
  return { header: decode(header), claims: decode(claims) }
}

export const seconds = () => Math.floor(Date.now() / 1000)

/** Signs `claims` as they are. `header` is merged over `{alg: HS256, typ: JWT}`. */
export function mint(secret, claims, header = {}) {
  const signed = `${encode({ alg: 'HS256', typ: 'JWT', ...header })}.${encode(claims)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

/** The same claims under `alg: none`, unsigned. */
export const mintUnsigned = claims => `${encode({ alg: 'none', typ: 'JWT' })}.${encode(claims)}.`

/** A minter for one node: claims default to those of the token the node printed, with a `sub` and `jti` of their own. */
export function minter({ secret, token }) {
  const { header, claims } = readToken(token)
  const { kid } = header
  const fill = overrides => {
    const now = seconds()
    const merged = { ...claims, sub: randomUUID(), jti: randomUUID(), iat: now, nbf: now, exp: now + 3600, ...overrides }
    // `undefined` removes a claim.
    return Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== undefined))
  }
  const sign = (overrides = {}, key = secret) => mint(key, fill(overrides), kid === undefined ? {} : { kid })
  return {
    sign,
    unsigned: (overrides = {}) => mintUnsigned(fill(overrides)),
    /** A token of an app nobody else uses, so that its limits count this test's clients alone. */
    limited: (limits, overrides = {}) =>
      sign({ appId: randomUUID(), limits: { ...claims.limits, ...limits }, ...overrides }),
  }
}
