"""Names of classes, modules and folders, the glossary's size, and references to documents."""

from __future__ import annotations

from tests.tidy import names

GLOSSARY_ROWS_MAX = 40


def test_no_public_class_name_is_defined_twice() -> None:
    assert names.repeated_classes() == {}


def test_no_module_name_is_unclear_or_ends_in_ing() -> None:
    assert names.unclear_modules() == []


def test_the_glossary_does_not_exceed_its_row_limit() -> None:
    assert names.glossary_rows() <= GLOSSARY_ROWS_MAX


def test_every_referenced_document_exists() -> None:
    assert names.missing_documents() == []


def test_every_path_and_link_target_in_a_document_exists() -> None:
    assert names.missing_paths() == []


def test_every_cited_section_exists_on_its_page() -> None:
    assert names.missing_sections() == []


def test_every_file_in_a_package_docstring_exists() -> None:
    assert names.unknown_files() == []


def test_a_harness_has_a_clear_name_and_is_defined_once() -> None:
    assert names.unclear_harnesses() == []
    assert {name for name, paths in names.harness_classes().items() if len(paths) > 1} == set()


def test_every_test_folder_mirrors_a_folder_of_the_product() -> None:
    assert names.misplaced_test_folders() == []
