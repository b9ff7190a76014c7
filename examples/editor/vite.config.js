import { defineConfig } from 'vite'
import { tokenEndpoint } from './server/token.js'

export default defineConfig({
  plugins: [tokenEndpoint()],
  // Top-level await; and an editor is as large as it is.
  build: { target: 'es2022', chunkSizeWarningLimit: 1000 },
})
