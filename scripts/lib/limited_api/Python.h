// CPython 3.11's headers in limited mode, made to say what those of 3.12 say: the module is built
// for the limited API of 3.12, and a machine may have 3.11 alone. Read by
// scripts/check-limited-api.
#pragma once

#include_next <Python.h>

// What the limited API of 3.12 has beyond that of 3.11.
extern "C" {
PyAPI_FUNC(PyObject*) PyErr_GetRaisedException(void);
PyAPI_FUNC(void) PyErr_SetRaisedException(PyObject*);
PyAPI_FUNC(void) PyErr_DisplayException(PyObject*);
PyAPI_FUNC(PyObject*) PyException_GetArgs(PyObject*);
PyAPI_FUNC(void) PyException_SetArgs(PyObject*, PyObject*);
PyAPI_FUNC(PyObject*)
    PyType_FromMetaclass(PyTypeObject*, PyObject* module, PyType_Spec*, PyObject* bases);
PyAPI_FUNC(void*) PyObject_GetTypeData(PyObject*, PyTypeObject*);
PyAPI_FUNC(Py_ssize_t) PyType_GetTypeDataSize(PyTypeObject*);
#ifdef Py_LIMITED_API
using vectorcallfunc = PyObject* (*)(PyObject*, PyObject* const*, size_t, PyObject*);
PyAPI_FUNC(PyObject*) PyObject_Vectorcall(PyObject*, PyObject* const*, size_t, PyObject*);
PyAPI_FUNC(PyObject*) PyObject_VectorcallMethod(PyObject*, PyObject* const*, size_t, PyObject*);
PyAPI_FUNC(PyObject*) PyVectorcall_Call(PyObject*, PyObject*, PyObject*);
PyAPI_FUNC(Py_ssize_t) PyVectorcall_NARGS(size_t);
PyAPI_FUNC(int) PyObject_GenericSetDict(PyObject*, PyObject*, void*);
#define PY_VECTORCALL_ARGUMENTS_OFFSET (static_cast<size_t>(1) << (8 * sizeof(size_t) - 1))
#define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
#define Py_TPFLAGS_ITEMS_AT_END (1UL << 23)
#define Py_T_INT 1
#define Py_T_BOOL 14
#define Py_T_PYSSIZET 19
#define Py_T_OBJECT_EX 16
#define Py_READONLY 1
#define Py_RELATIVE_OFFSET 8
struct PyMemberDef {
  const char* name;
  int type;
  Py_ssize_t offset;
  int flags;
  const char* doc;
};
#endif
}
