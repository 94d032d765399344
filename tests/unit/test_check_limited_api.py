"""What scripts/check-limited-api finds in sources of the extension module."""

import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "check-limited-api"))


def errors_in(folder, statements):
    source = folder / "source.cc"
    source.write_text(f"#include <Python.h>\nPyObject* f(PyTypeObject* type) {{ {statements} }}\n")
    return "".join(CHECK["errors"]([source], []))


def test_what_the_limited_api_of_3_12_has_is_accepted(tmp_path):
    text = errors_in(
        tmp_path,
        """PyObject* arguments[] = {nullptr, reinterpret_cast<PyObject*>(type)};
        PyObject* error = PyErr_GetRaisedException();
        if (error) PyErr_SetRaisedException(error);
        PyObject* callable = Py_NewRef(arguments[1]);
        return PyObject_Vectorcall(callable, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);""",
    )
    assert text == ""


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        ("return Py_NewRef(type);", "_typeobject"),
        ("return Py_XNewRef(type);", "_typeobject"),
        ("return PyTuple_GET_ITEM(type->tp_bases, 0);", "PyTuple_GET_ITEM"),
        ("return PyObject_CallOneArg((PyObject*)type, nullptr);", "PyObject_CallOneArg"),
        (
            "return PyObject_CallMethodNoArgs((PyObject*)type, nullptr);",
            "PyObject_CallMethodNoArgs",
        ),
    ],
)
def test_what_it_has_not_is_an_error_that_names_it(tmp_path, statements, named):
    assert named in errors_in(tmp_path, statements)
