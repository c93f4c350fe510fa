// The way back of batches: nothing is lost, and a reader is told only where it waits.
#include "actors/returned_batches.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

using namespace psource;

namespace {

using batches = std::vector<std::shared_ptr<batch>>;

}  // namespace

TEST_CASE("what came back is taken in order, once") {
  returned_batches returned;
  const auto first = std::make_shared<batch>();
  const auto second = std::make_shared<batch>();
  CHECK_FALSE(returned.put(first));
  CHECK_FALSE(returned.put(second));
  batches taken{nullptr};
  CHECK(returned.take(taken) == 2);
  CHECK(taken == batches{nullptr, first, second});
  CHECK(returned.take(taken) == 0);
}

TEST_CASE("a reader that waits is told once") {
  returned_batches returned;
  CHECK(returned.await());
  CHECK(returned.await());
  CHECK(returned.put(std::make_shared<batch>()));
  CHECK_FALSE(returned.put(std::make_shared<batch>()));
}

TEST_CASE("a reader does not wait for what is there, nor after it has taken") {
  returned_batches returned;
  batches taken;
  CHECK_FALSE(returned.put(std::make_shared<batch>()));
  CHECK_FALSE(returned.await());
  CHECK(returned.take(taken) == 1);
  CHECK(returned.await());
  CHECK(returned.take(taken) == 0);
  CHECK_FALSE(returned.put(std::make_shared<batch>()));
}
