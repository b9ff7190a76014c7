// An authority of our own, a certificate for this host, and a home directory whose browsers trust the authority.

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30']

function run(program, args) {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

/** `certificates` is a directory with node.crt and node.key, `home` one whose NSS database has the authority. */
export function makeCertificates() {
  const dir = mkdtempSync(join(tmpdir(), 'pinwire-tls-'))
  const file = name => join(dir, name)
  run('openssl', ['req', '-x509', ...KEY, '-subj', '/CN=Pinwire tests', '-keyout', file('ca.key'), '-out', file('ca.crt')])
  run('openssl', ['req', '-new', ...KEY, '-subj', '/CN=localhost', '-keyout', file('node.key'), '-out', file('node.csr')])
  writeFileSync(file('extensions'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n')
  const signing = ['-CA', file('ca.crt'), '-CAkey', file('ca.key'), '-CAcreateserial', '-extfile', file('extensions')]
  run('openssl', ['x509', '-req', '-days', '30', '-in', file('node.csr'), ...signing, '-out', file('node.crt')])

  const home = file('home')
  const database = join(home, '.pki', 'nssdb')
  mkdirSync(database, { recursive: true })
  run('certutil', ['-d', `sql:${database}`, '-N', '--empty-password'])
  // C: an authority for servers.
  run('certutil', ['-d', `sql:${database}`, '-A', '-t', 'C,,', '-n', 'Pinwire tests', '-i', file('ca.crt')])
  return { certificates: dir, home, remove: () => rmSync(dir, { recursive: true }) }
}
