'use strict'

// A VFS of @sqlite.org/sqlite-wasm over images of databases and files in memory: the functions that
// SQLite calls. None of them may throw: C is on the stack.

const { MemoryFile } = require('./sqlite-files.js')

const SECTOR = 4096
const MOST_PATH = 512

/** Registers the VFS under the first free name that begins with `hostmap`. */
function installVfs(sqlite3) {
  const { capi, wasm } = sqlite3
  const name = freeName(capi)
  // By name: images, and journals and other files that connections make.
  const images = new Map()
  const files = new Map()
  // By the address of the sqlite3_file.
  const handles = new Map()
  const release = image => {
    images.delete(image.filename)
    files.delete(`${image.filename}-journal`)
    image.close()
  }

  const io = new capi.sqlite3_io_methods()
  io.$iVersion = 1
  const vfs = withDefaults(capi)
  sqlite3.vfs.installVfs({
    io: { struct: io, methods: ioMethods({ capi, wasm, handles, files, release }) },
    vfs: {
      struct: vfs,
      name,
      methods: vfsMethods({ capi, wasm, handles, files, images, pMethods: io.pointer })
    }
  })
  return { name, images, release }
}

function freeName(capi) {
  // Another copy of this package may have been here.
  for (let number = 1; ; number++) {
    const name = number === 1 ? 'hostmap' : `hostmap-${number}`
    if (!capi.sqlite3_vfs_find(name)) return name
  }
}

/** A sqlite3_vfs with the clock and the random numbers of the default one. */
function withDefaults(capi) {
  const vfs = new capi.sqlite3_vfs()
  const standard = new capi.sqlite3_vfs(capi.sqlite3_vfs_find(null))
  vfs.$iVersion = 2
  vfs.$szOsFile = capi.sqlite3_file.structInfo.sizeof
  vfs.$mxPathname = MOST_PATH
  for (const key of ['$xRandomness', '$xSleep', '$xCurrentTime', '$xCurrentTimeInt64'])
    vfs[key] = standard[key]
  standard.dispose()
  return vfs
}

function ioMethods({ capi, wasm, handles, files, release }) {
  const { SQLITE_BUSY, SQLITE_IOERR_CLOSE, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ } = capi
  const { SQLITE_IOERR_WRITE, SQLITE_IOERR_TRUNCATE, SQLITE_NOTFOUND, SQLITE_READONLY } = capi
  const { SQLITE_FULL, SQLITE_IOCAP_IMMUTABLE } = capi
  const IN_MEMORY =
    capi.SQLITE_IOCAP_SAFE_APPEND |
    capi.SQLITE_IOCAP_SEQUENTIAL |
    capi.SQLITE_IOCAP_POWERSAFE_OVERWRITE

  let heap = wasm.heap8u()
  // Growth of the memory detaches the array, or leaves it too short.
  const heapTo = end => {
    if (end > heap.length) heap = wasm.heap8u()
    return heap
  }

  return {
    xClose(pFile) {
      try {
        const handle = handles.get(pFile)
        handles.delete(pFile)
        const { file } = handle
        file.unlock(handle, 0)
        if (handle.isDeleted) files.delete(handle.name)
        if (handle.isImage && --file.open === 0 && file.isReleased) release(file)
        return 0
      } catch {
        return SQLITE_IOERR_CLOSE
      }
    },

    xRead(pFile, pDestination, length, offset) {
      try {
        const { file } = handles.get(pFile)
        const address = pDestination >>> 0
        const from = Number(offset)
        const bytes = heapTo(address + length)
        const count = file.read(bytes, address, length, from)
        if (file.isMissing(bytes, address, count, from)) return SQLITE_IOERR_READ
        if (count === length) return 0
        bytes.fill(0, address + count, address + length)
        return SQLITE_IOERR_SHORT_READ
      } catch {
        // A detached Buffer.
        return SQLITE_IOERR_READ
      }
    },

    xWrite(pFile, pSource, length, offset) {
      try {
        const { file, isReadonly } = handles.get(pFile)
        if (isReadonly) return SQLITE_READONLY
        const address = pSource >>> 0
        const bytes = heapTo(address + length)
        file.write(bytes.subarray(address, address + length), Number(offset))
        return 0
      } catch (error) {
        // V8's RangeError: no memory for what the file grows by.
        return error instanceof RangeError ? SQLITE_FULL : SQLITE_IOERR_WRITE
      }
    },

    xTruncate(pFile, size) {
      try {
        const { file, isReadonly } = handles.get(pFile)
        if (isReadonly) return SQLITE_READONLY
        file.truncate(Number(size))
        return 0
      } catch {
        return SQLITE_IOERR_TRUNCATE
      }
    },

    xSync() {
      return 0
    },

    xFileSize(pFile, pSize) {
      wasm.poke64(pSize, BigInt(handles.get(pFile).file.size))
      return 0
    },

    xLock(pFile, level) {
      const handle = handles.get(pFile)
      if (level <= handle.level) return 0
      return handle.file.lock(handle, level) ? 0 : SQLITE_BUSY
    },

    xUnlock(pFile, level) {
      const handle = handles.get(pFile)
      handle.file.unlock(handle, level)
      return 0
    },

    xCheckReservedLock(pFile, pReserved) {
      wasm.poke32(pReserved, handles.get(pFile).file.isReserved() ? 1 : 0)
      return 0
    },

    xFileControl() {
      return SQLITE_NOTFOUND
    },

    xSectorSize() {
      return SECTOR
    },

    xDeviceCharacteristics(pFile) {
      // Not for a connection that only reads an image that others write.
      const { isImage, file } = handles.get(pFile)
      return isImage && !file.isPrivate ? SQLITE_IOCAP_IMMUTABLE : IN_MEMORY
    }
  }
}

function vfsMethods({ capi, wasm, handles, files, images, pMethods }) {
  const { SQLITE_CANTOPEN, SQLITE_OPEN_CREATE, SQLITE_OPEN_DELETEONCLOSE } = capi
  const { SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_READONLY, SQLITE_OPEN_READWRITE } = capi

  /** What a name and flags open; null if there is no such file. */
  const handleOf = (name, flags) => {
    if (flags & SQLITE_OPEN_MAIN_DB) {
      const image = images.get(name)
      if (image === undefined || image.isReleased) return null
      image.open++
      const isReadonly = !image.isPrivate || (flags & SQLITE_OPEN_READONLY) !== 0
      return { file: image, isImage: true, isReadonly, isDeleted: false, name, level: 0 }
    }
    let file = files.get(name)
    if (file === undefined) {
      if ((flags & SQLITE_OPEN_CREATE) === 0) return null
      file = new MemoryFile()
      // Temporary files have no name.
      if (name !== null) files.set(name, file)
    }
    const isDeleted = (flags & SQLITE_OPEN_DELETEONCLOSE) !== 0
    return { file, isImage: false, isReadonly: false, isDeleted, name, level: 0 }
  }

  return {
    xOpen(_pVfs, pName, pFile, flags, pOutFlags) {
      const handle = handleOf(pName ? wasm.cstrToJs(pName) : null, flags)
      if (handle === null) return SQLITE_CANTOPEN
      handles.set(pFile, handle)
      wasm.pokePtr(pFile, pMethods)
      if (pOutFlags) {
        const writing = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
        const granted = handle.isReadonly ? (flags & ~writing) | SQLITE_OPEN_READONLY : flags
        wasm.poke32(pOutFlags, granted)
      }
      return 0
    },

    xDelete(_pVfs, pName) {
      files.delete(wasm.cstrToJs(pName))
      return 0
    },

    xAccess(_pVfs, pName, _flags, pResult) {
      const name = wasm.cstrToJs(pName)
      wasm.poke32(pResult, images.has(name) || files.has(name) ? 1 : 0)
      return 0
    },

    xFullPathname(_pVfs, pName, size, pFullName) {
      return wasm.cstrncpy(pFullName, pName, size) < size ? 0 : SQLITE_CANTOPEN
    },

    xGetLastError() {
      return 0
    }
  }
}

module.exports = { installVfs }
