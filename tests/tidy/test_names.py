"""Names of classes, modules and folders, the glossary's size, and references to documents."""

from __future__ import annotations

from tests.tidy import names

GLOSSARY_ROWS_MAX = 40


def test_no_public_class_name_is_defined_twice() -> None:
    assert names.repeated_classes() == {}


def test_modules_are_named_by_nouns_of_the_field() -> None:
    assert names.unreadable_modules() == []


def test_the_glossary_stays_small() -> None:
    assert names.glossary_rows() <= GLOSSARY_ROWS_MAX


def test_every_document_that_is_named_is_in_the_repository() -> None:
    assert names.missing_documents() == []


def test_every_path_and_link_of_a_document_leads_somewhere() -> None:
    assert names.missing_paths() == []


def test_every_section_that_a_text_refers_to_is_on_its_page() -> None:
    assert names.missing_sections() == []


def test_every_file_that_a_package_lists_is_in_it() -> None:
    assert names.unknown_files() == []


def test_a_harness_is_named_by_what_it_runs_and_defined_once() -> None:
    assert names.private_harnesses() == []
    assert {name for name, paths in names.harness_classes().items() if len(paths) > 1} == set()


def test_tests_of_a_package_are_in_a_folder_of_its_name() -> None:
    assert names.folders_without_a_package() == []
